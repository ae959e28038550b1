"""Digests of crystals, by which those that are written alike are found among many."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.crystals.structures import Crystals

GRID, SHIFT = 1e-3, 0.31416
"""The steps, in A, in which positions and cells are compared, and where they begin, in steps.

Lattice constants and their halves, quarters and thirds are not where a step ends, so that no rounding parts them.
"""


def crystal_digests(crystals: Crystals) -> list[str]:
    """Return a digest of the species, positions and cell of each crystal, whatever its label."""
    if not len(crystals):
        return []
    sites = np.hstack([crystals.numbers[:, None], grid_steps(crystals.positions)])
    parts = zip(np.split(sites, crystals.offsets[1:-1]), grid_steps(crystals.cell), strict=True)
    return [hashlib.sha256(of_sites.tobytes() + cell.tobytes()).hexdigest()[:32] for of_sites, cell in parts]


def grid_steps(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return in which step of `GRID` values in A lie."""
    return np.floor(values / GRID + SHIFT).astype(np.int64)
