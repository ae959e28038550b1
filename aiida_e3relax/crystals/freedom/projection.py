"""Projection of a prediction on the degrees of freedom that may move."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.crystals.freedom.freedom import Freedom, Moves
from aiida_e3relax.crystals.freedom.vacuum import Gap, Search, gap_of
from aiida_e3relax.crystals.geometry import fractional_displacements
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.crystals.symmetry import SpaceGroup


def restrict(
    start: Crystals, prediction: Crystals, freedom: Freedom, kinds: Sequence[str], search: Search | None = None
) -> Crystals:
    """Return `prediction` without what may not move, and without a common shift of all its atoms.

    The sites of `start` are shifted by the predicted fractional displacements in the cell that `freedom` leaves of the
    predicted one; across a vacuum, as above the plane of a layer, they are shifted by what is predicted in A, whatever
    the predicted vacuum. A vector across the vacuum keeps its height, and where it leans it leans along with the
    strained layer: the crystal does not depend on which of them spans the cell. The common shift is no relaxation, and
    it would take the symmetry elements off the origin, where codes look for them: GPAW then computes with several times
    the k-points. Where sites are fixed, the prediction is shifted to lie on them instead.

    Parameters
    ----------
    start, prediction
        One crystal each, with the same sites in the same order.
    freedom
        What may move.
    kinds
        ``(N,)`` names of the sites' kinds; the preserved space group distinguishes them, and of it the operations are
        preserved that map fixed coordinates on fixed ones.
    search
        What finds neighbours, for the look for a vacuum; by default pymatgen.
    """
    movable = freedom.movable(len(kinds))
    group = SpaceGroup.of(start, kinds).keeping(movable) if freedom.keep_symmetry else None
    gap = gap_of(freedom, start, search)
    cell = _restrict_cell(start, prediction, freedom, gap, group)
    if freedom.moves == Moves.VOLUME or not movable.any():
        shifts = np.zeros_like(start.positions)
    else:
        shifts = _anchor(_displacements(start, prediction, cell, gap), movable)
        if group is not None:
            shifts = group.symmetrise_displacements(shifts)
        shifts[~movable] = 0.0
    return start.replace((start.fractional() + shifts) @ cell, cell[None])


def _restrict_cell(
    start: Crystals, prediction: Crystals, freedom: Freedom, gap: Gap | None, group: SpaceGroup | None
) -> NDArray[np.float64]:
    raw, predicted = start.cell[0], prediction.cell[0]
    growth = np.cbrt(prediction.volumes[0] / start.volumes[0])
    if freedom.moves == Moves.POSITIONS:
        return raw
    if freedom.moves == Moves.VOLUME:
        return growth * raw
    if freedom.moves == Moves.IN_PLANE:
        layer = [axis for axis in range(3) if gap is None or axis not in gap.open_axes]
        cell = raw @ _stretch_of_layer(raw[layer], predicted[layer])
    else:
        cell = predicted / growth if freedom.moves == Moves.SHAPE else predicted
    return raw @ group.symmetrise_stretch(_stretch(raw, cell)) if group else cell


def _stretch_of_layer(raw: NDArray[np.float64], predicted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the symmetric stretch of the raw plane that gives the vectors of a layer their lengths and angle."""
    count, axes = len(raw), np.linalg.svd(raw)[2]  # orthonormal rows, those of the plane first
    inverse = np.linalg.inv(raw @ axes[:count].T)
    squares, principal = np.linalg.eigh(inverse @ predicted @ predicted.T @ inverse.T)  # of the square of the stretch
    stretch = np.eye(3)
    stretch[:count, :count] = (principal * np.sqrt(squares)) @ principal.T
    return axes.T @ stretch @ axes


def _stretch(raw: NDArray[np.float64], cell: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the symmetric stretch P of ``raw P Q = cell`` with a rotation Q."""
    left, stretches, _ = np.linalg.svd(np.linalg.solve(raw, cell))
    return (left * stretches) @ left.T


def _displacements(
    start: Crystals, prediction: Crystals, cell: NDArray[np.float64], gap: Gap | None
) -> NDArray[np.float64]:
    """Return the ``(N, 3)`` predicted displacements as fractions of `cell`.

    Atoms of a layer follow its lattice vectors and keep their heights above it, wherever the vector across the vacuum
    leans.
    """
    displacements = fractional_displacements(start, prediction)
    if gap is None:
        return displacements
    raw, predicted = start.cell[0], prediction.cell[0]
    before = start.fractional() + gap.images
    across = np.linalg.svd(gap.periodic @ raw)[2][gap.dimension :]  # unit normals, in A
    turn = np.linalg.solve(raw, predicted)
    of_prediction = _frame(gap, predicted, across @ np.linalg.solve(_stretch(raw, predicted), turn))
    in_layer = (before + displacements) @ predicted @ np.linalg.inv(of_prediction)  # fractions, and heights in A
    return in_layer @ _frame(gap, cell, across) @ np.linalg.inv(cell) - before


def _frame(gap: Gap, cell: NDArray[np.float64], across: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the vectors along which the matter goes on, and those `across` made unit normals to all of these."""
    along = gap.periodic @ cell
    normal = across - across @ np.linalg.pinv(along) @ along
    left, _, right = np.linalg.svd(normal, full_matrices=False)
    return np.vstack([along, left @ right])


def _anchor(displacements: NDArray[np.float64], movable: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the displacements against the fixed sites, or against all sites along a vector where none is fixed."""
    anchored = displacements.copy()
    for axis in range(3):
        fixed = ~movable[:, axis]
        anchored[:, axis] -= displacements[fixed if fixed.any() else slice(None), axis].mean()
    return anchored
