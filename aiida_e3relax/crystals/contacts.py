"""How close two atoms can be: bounds that no crystal breaks, not even one that no one has relaxed yet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SMALLEST_RATIO = 0.5
"""Atoms closer than this times the sum of their covalent radii are on top of each other.

The closest of 28,859 unrelaxed crystals, most with another compound's lattice constants, are at 0.55
(`benchmarks/contacts.py`)."""

SMALLEST_DISTANCE = 0.5
"""In A; where hydrogen's radius makes the bound smaller: the shortest bond there is, that of H2, has 0.74 A."""

SMALLEST_VOLUME = 1.0
"""In A^3 per atom, of a cell that holds its atoms at all: the densest element, carbon in diamond, has 5.7."""

COVALENT_RADII: NDArray[np.float64] = np.array(
    [
        *(0.20, 0.31, 0.28, 1.28, 0.96, 0.84, 0.76, 0.71, 0.66, 0.57, 0.58, 1.66, 1.41, 1.21, 1.11, 1.07, 1.05),
        *(1.02, 1.06, 2.03, 1.76, 1.70, 1.60, 1.53, 1.39, 1.39, 1.32, 1.26, 1.24, 1.32, 1.22, 1.22, 1.20),
        *(1.19, 1.20, 1.20, 1.16, 2.20, 1.95, 1.90, 1.75, 1.64, 1.54, 1.47, 1.46, 1.42, 1.39, 1.45, 1.44),
        *(1.42, 1.39, 1.39, 1.38, 1.39, 1.40, 2.44, 2.15, 2.07, 2.04, 2.03, 2.01, 1.99, 1.98, 1.98, 1.96),
        *(1.94, 1.92, 1.92, 1.89, 1.90, 1.87, 1.87, 1.75, 1.70, 1.62, 1.51, 1.44, 1.41, 1.36, 1.36, 1.32),
        *(1.45, 1.46, 1.48, 1.40, 1.50, 1.50, 2.60, 2.21, 2.15, 2.06, 2.00, 1.96, 1.90, 1.87, 1.80, 1.69),
        *([2.00] * 22),
    ]
)
"""In A, by atomic number (Cordero et al., Dalton Trans. 2832 (2008)); of elements without one as ASE has them, whose
table this is: a node that holds PyTorch alone lacks ASE."""


def smallest_distances(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return by pair, in A, what atoms of the atomic numbers `first` and `second` are at least apart in any crystal."""
    return np.maximum(SMALLEST_RATIO * (COVALENT_RADII[first] + COVALENT_RADII[second]), SMALLEST_DISTANCE)


def tell_overlap(sites: Sequence[str], distance: float, smallest: float) -> str:
    """Return the message on two sites, in words such as `As 0`, that are `distance` A apart."""
    first, second = sites
    if first == second:
        where = f'the site {first} and its periodic image are {distance:.3g} A apart'
        return f'{where}, expected at least {smallest:.2f} A; look for a cell in other units or with a lost digit'
    return (
        f'the sites {first} and {second} are {distance:.3g} A apart, expected at least {smallest:.2f} A; look for '
        'sites listed twice, or a space group in another setting than that of its coordinates'
    )
