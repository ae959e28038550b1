"""Rounding that hides the symmetry of a predicted crystal, taken out of it again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.crystals.symmetry import SpaceGroup

SYMPREC = 1e-5
"""In A, how far sites may be off where VASP takes them for equivalent, by its default."""

MOST_ROUNDING = 1e-3
"""In A: what is further off than this comes from no rounding of single precision."""


class NotOfRoundingError(ValueError):
    """A prediction that lacks the symmetry of its crystal by more than rounding."""


def restore_symmetry(
    start: Crystals, prediction: Crystals, kinds: Sequence[str] | NDArray, movable: NDArray[np.bool_]
) -> tuple[Crystals, float]:
    """Return `prediction` with the symmetry that VASP sees in `start`, and by how far that moved something, in A.

    A network that follows every symmetry operation of a crystal keeps its space group; in single precision it does so
    up to some 1e-6 A, which VASP does not take for symmetric. Displacements and the stretch of the cell are averaged
    over the operations, and what `start` itself is off stays: the prediction is as symmetric as `start`.

    Parameters
    ----------
    start, prediction
        One crystal each, with the same sites in the same order and images.
    kinds
        ``(N,)`` names of the sites' kinds; sites of one kind alone are equivalent.
    movable
        ``(N, 3)`` which fractional coordinates may move; operations count that map free ones on free ones.

    Raises
    ------
    NotOfRoundingError
        Where more than `MOST_ROUNDING` would have to be taken out.
    ValueError
        Where spglib finds no group.
    """
    group = SpaceGroup.of(start, kinds, SYMPREC).keeping(movable)
    if len(group.rotations) == 1:
        return prediction, 0.0
    raw, cell = start.cell[0], prediction.cell[0]
    if not np.array_equal(raw, cell):
        left, stretches, right = np.linalg.svd(np.linalg.solve(raw, cell))
        stretch = group.symmetrise_stretch((left * stretches) @ left.T)
        cell = raw @ stretch @ (left @ right)  # the rotation in the prediction, if there is one, stays
    before = start.fractional()
    shifts = group.symmetrise_displacements(prediction.fractional() - before)
    restored = start.replace((before + shifts) @ cell, cell[None])
    off = max(np.abs(restored.positions - prediction.positions).max(), np.abs(cell - prediction.cell[0]).max())
    if not off <= MOST_ROUNDING:
        raise NotOfRoundingError(
            f'the prediction lacks the symmetry {group.name} of the crystal by {off:.3g} A, more than rounding'
        )
    return restored, float(off)
