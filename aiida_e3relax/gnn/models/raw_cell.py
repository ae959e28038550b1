"""Base of the papers' baselines: each moves the atoms by its own network, and the cell by DeepRelax's head."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn

from aiida_e3relax.crystals.structures import MAX_ATOMIC_NUMBER
from aiida_e3relax.gnn.graph.batch import CrystalBatch, Geometry
from aiida_e3relax.gnn.layers import CellHead, bounded, inverse
from aiida_e3relax.gnn.models.base import RelaxationModel, Transformation

LARGEST_STRAIN = 0.5
"""Bound of the Frobenius norm of the cell's relative change."""


def bounded_cell(head: CellHead, x: Tensor, batch: CrystalBatch) -> Tensor:
    """Return the cells ``(S, 3, 3)`` that `head` predicts from the atoms' scalars ``(A, F)``, their change bounded."""
    strain = inverse(batch.cell) @ (head(x, batch) - batch.cell)
    return batch.with_fixed_cells(batch.cell + batch.cell @ bounded(strain, LARGEST_STRAIN, dim=(1, 2)))


class RawCellRelaxation(RelaxationModel):
    """Relaxed crystals in one step, the cell by `CellHead`.

    Atoms follow the cell at fixed fractional coordinates, so whatever the head breaks, it breaks in the cell alone. Its
    change of the cell, a sum over atoms, is bounded: large cells would turn inside out.
    """

    breaks = frozenset(
        {
            Transformation.ROTATION,
            Transformation.REFLECTION,
            Transformation.RELABELLING,
            Transformation.REVERSAL,
            Transformation.OTHER_CELL,
            Transformation.SUPERCELL,
            Transformation.CELL_SYMMETRY,
        }
    )

    def __init__(self, features: int):
        super().__init__()
        self.embedding = nn.Embedding(MAX_ATOMIC_NUMBER + 1, features)
        self.cell_head = CellHead(features)

    @property
    def site_features(self) -> int:
        """The scalars after the last layer."""
        return self.embedding.embedding_dim

    @property
    def standard_orientation(self) -> bool:
        """Whether the prediction is right only for an input with a along x and b in the xy plane, positive in y."""
        return True

    @abstractmethod
    def relaxed_atoms(self, x: Tensor, batch: CrystalBatch) -> tuple[Tensor, Tensor]:
        """Return the atoms' fractional coordinates ``(A, 3)`` and scalars ``(A, F)``, from scalars of the elements."""

    def forward(self, batch: CrystalBatch) -> list[Geometry]:
        """Return the prediction."""
        fractional, x = self.relaxed_atoms(self.embedding(batch.numbers), batch)
        return [Geometry(fractional, bounded_cell(self.cell_head, x, batch), features=(x,))]
