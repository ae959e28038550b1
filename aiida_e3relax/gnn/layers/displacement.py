"""The step from predicted displacements to new fractional coordinates."""

from torch import Tensor

from aiida_e3relax.gnn.graph.batch import CrystalBatch
from aiida_e3relax.gnn.layers.activation import bounded
from aiida_e3relax.gnn.layers.matrices import inverse

LARGEST_DISPLACEMENT = 3.0
"""Bound of one layer's displacement of an atom, in A."""


def without_drift(displacement: Tensor, cell: Tensor, batch: CrystalBatch) -> Tensor:
    """Return Cartesian displacements ``(A, 3)`` without their mean over each crystal.

    Along lattice vectors of the `cell` ``(S, 3, 3)`` along which an atom is fixed, the mean stays: there these atoms
    say where the crystal is.
    """
    mean = batch.mean_over_atoms(displacement)
    if batch.fixed is not None:
        anchored = batch.mean_over_atoms(batch.fixed.to(mean.dtype)) > 0
        along = (mean[:, None] @ inverse(cell)).masked_fill(anchored[:, None], 0.0)
        mean = (along @ cell)[:, 0]
    return displacement - mean[batch.structure_index]


def displaced(fractional: Tensor, displacement: Tensor, cell: Tensor, batch: CrystalBatch) -> Tensor:
    """Return the fractional coordinates ``(A, 3)`` after Cartesian displacements ``(A, 3)``, in A.

    Each displacement is shortened below `LARGEST_DISPLACEMENT`, and their mean over the crystal is taken off. That
    holds the crystal where it is whatever way its atoms are wrapped into the `cell` ``(S, 3, 3)``, rows in A. Fixed
    atoms hold it, too: they do not move, and the mean of the others stays.
    """
    displacement = without_drift(bounded(displacement, LARGEST_DISPLACEMENT, dim=1), cell, batch)
    moved = fractional + (displacement[:, None] @ inverse(cell)[batch.structure_index])[:, 0]
    return batch.with_fixed_coordinates(moved)
