"""A crystal's geometry as the lattice and fractional coordinates."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Geometry:
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
