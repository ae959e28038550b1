"""Crystals with a random strain and random displacements."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.crystals.structures import Crystals


def perturbed(
    crystals: Crystals,
    strain: float,
    rattle: float,
    rng: np.random.Generator,
    fixed: NDArray[np.bool_] | None = None,
    fixed_cell: NDArray[np.bool_] | None = None,
) -> Crystals:
    """Return `crystals` with a random symmetric strain of each cell and random displacements of the atoms.

    Parameters
    ----------
    strain
        Standard deviation of the diagonal entries of the strain; that of the others is smaller by sqrt(2).
    rattle
        Standard deviation of the displacements, in A in each direction.
    fixed, fixed_cell
        ``(A, 3)`` fractional coordinates and ``(S,)`` cells that stay; None where none do.
    """
    index = crystals.structure_index
    noise = rng.normal(scale=strain, size=(len(crystals), 3, 3))
    if fixed_cell is not None:
        noise[fixed_cell] = 0.0
    cell = crystals.cell @ (np.eye(3) + (noise + np.swapaxes(noise, 1, 2)) / 2)
    positions = np.einsum('ac,acx->ax', crystals.fractional(), cell[index])
    moves = rng.normal(scale=rattle, size=positions.shape)
    if fixed is not None:
        along = np.einsum('ax,axc->ac', moves, np.linalg.inv(cell)[index])
        moves = np.einsum('ac,acx->ax', np.where(fixed, 0.0, along), cell[index])
    return crystals.replace(positions + moves, cell)
