"""A crystal's geometry as the lattice and fractional coordinates."""

from dataclasses import dataclass

import numpy as np

LONGEST = 1000.0
"""Of a lattice vector, A."""
SMALLEST_VOLUME = 0.5
"""Of an atom, A^3; hydrogen in the core of Jupiter has 1."""
RANGE = 10.0
"""A; longer than any engine's interactions."""
MOST_IMAGES = 100_000
"""Of the cell within `RANGE`: a cell so thin that it has more would keep a neighbour search busy for hours."""


@dataclass(frozen=True)
class FractionalGeometry:
    """Lattice and sites of a crystal.

    Parameters
    ----------
    cell
        Lattice vectors as rows, (3, 3), A.
    scaled
        Fractional coordinates, (n_atoms, 3); kept as they are, never wrapped.
    """

    cell: np.ndarray
    scaled: np.ndarray

    @property
    def positions(self) -> np.ndarray:
        """Cartesian coordinates, (n_atoms, 3), A."""
        return self.scaled @ self.cell

    @property
    def volume(self) -> float:
        """Volume of the cell in A^3."""
        return abs(float(np.linalg.det(self.cell)))

    @property
    def reciprocal(self) -> np.ndarray:
        """Reciprocal lattice vectors as rows without the factor 2 pi, (3, 3), 1/A."""
        return np.linalg.inv(self.cell).T


def find_geometry_fault(geometry: FractionalGeometry) -> str | None:
    """Return why no engine can take a geometry, or None."""
    if not (np.isfinite(geometry.cell).all() and np.isfinite(geometry.scaled).all()):
        return 'it has numbers that are not finite'
    longest = float(np.linalg.norm(geometry.cell, axis=1).max())
    if longest > LONGEST:
        return f'expected lattice vectors of {LONGEST:.0f} A at most, found {longest:.4g} A'
    volume = geometry.volume / len(geometry.scaled)
    if volume < SMALLEST_VOLUME:
        return f'expected {SMALLEST_VOLUME} A^3 an atom at least, found {volume:.3g} A^3'
    heights = 1 / np.linalg.norm(geometry.reciprocal, axis=1)
    if np.prod(2 * np.ceil(RANGE / heights) + 1) > MOST_IMAGES:
        return f'the cell is too thin or too skewed, {heights.min():.3g} A across; reduce it'
    return None
