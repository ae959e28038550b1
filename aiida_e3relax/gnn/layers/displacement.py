"""The step from predicted displacements to new fractional coordinates."""

from torch import Tensor

from aiida_e3relax.gnn.graph.batch import CrystalBatch
from aiida_e3relax.gnn.layers.activation import bounded
from aiida_e3relax.gnn.layers.matrices import inverse

LARGEST_DISPLACEMENT = 3.0
"""Bound of one layer's displacement of an atom, in A."""


def displaced(fractional: Tensor, displacement: Tensor, cell: Tensor, batch: CrystalBatch) -> Tensor:
    """Return the fractional coordinates ``(A, 3)`` after Cartesian displacements ``(A, 3)``, in A.

    Each displacement is shortened below `LARGEST_DISPLACEMENT`, and their mean over the crystal is taken off. That
    holds the crystal where it is whatever way its atoms are wrapped into the `cell` ``(S, 3, 3)``, rows in A.
    """
    displacement = bounded(displacement, LARGEST_DISPLACEMENT, dim=1)
    displacement = displacement - batch.mean_over_atoms(displacement)[batch.structure_index]
    return fractional + (displacement[:, None] @ inverse(cell)[batch.structure_index])[:, 0]
