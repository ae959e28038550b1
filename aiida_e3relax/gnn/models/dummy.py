"""The papers' Dummy, which predicts no change: the baseline of every network."""

from __future__ import annotations

import dataclasses

from aiida_e3relax.gnn.graph.batch import CrystalBatch, Geometry
from aiida_e3relax.gnn.models.base import RelaxationModel


class Dummy(RelaxationModel):
    """Returns its input; has no parameters."""

    @dataclasses.dataclass(frozen=True)
    class Hyperparameters:
        """Of the graph, by which inputs are checked and batches sized; `cutoff` in A."""

        cutoff: float = 6.0
        max_neighbours: int = 24

    def __init__(self, hyperparameters: Hyperparameters):
        super().__init__()
        self.hyperparameters = hyperparameters

    def forward(self, batch: CrystalBatch) -> list[Geometry]:
        """Return the input."""
        return [Geometry(batch.fractional, batch.cell)]
