"""The pairs of atoms of one crystal within a distance, periodic images included, without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.crystals.cells import inverse_of, reduction

if TYPE_CHECKING:
    from aiida_e3relax.crystals.structures import Crystals

MOST_PAIRS = 2 * 10**7
"""Pairs that a search gives, by the density: about 1 GB."""

NeighbourPairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
"""First and second atom ``(P,)``, cell ``(P, 3)`` of the image of the second, and distance ``(P,)`` in A."""


def pairs_within(crystal: Crystals, reach: float) -> NeighbourPairs:
    """Return both directions of all pairs closer than `reach` A; an atom is no neighbour of itself, its images are.

    The cell repeats in all directions. It is searched reduced: how it was chosen changes neither time nor result.

    Raises
    ------
    ValueError
        Where there would be more than `MOST_PAIRS`.
    """
    from pymatgen.optimization.neighbors import find_points_in_spheres

    transform = reduction(crystal.cell)
    cell = np.ascontiguousarray((transform @ crystal.cell)[0])
    count = len(crystal.numbers)
    expected = count**2 * (4 / 3 * np.pi * reach**3) / abs(float(np.linalg.det(cell)))
    if not expected <= MOST_PAIRS:
        raise ValueError(
            f'{count} atoms in {abs(float(np.linalg.det(cell))):.3g} A^3 make about {expected:.2g} pairs within '
            f'{reach:.3g} A, expected at most {MOST_PAIRS:.2g}'
        )
    inside = crystal.fractional() @ inverse_of(transform)[0]
    wrap = np.floor(inside)
    positions = np.ascontiguousarray((inside - wrap) @ cell)
    periodic = np.ones(3, dtype=np.int64)
    first, second, offset, distance = find_points_in_spheres(positions, positions, reach, periodic, cell)
    offset = np.round(offset).astype(np.int64)
    other = (first != second) | offset.any(axis=1)
    first, second, offset, distance = first[other], second[other], offset[other], distance[other]
    offset = (offset + (wrap[first] - wrap[second]).astype(np.int64)) @ transform[0]
    return first, second, offset, distance
