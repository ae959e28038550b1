"""PaiNN (Schütt, Unke and Gastegger, ICML 2021) as the papers' baseline: its force branch predicts displacements."""

from __future__ import annotations

import dataclasses

from torch import Tensor, nn

from aiida_e3relax.gnn.graph.batch import CrystalBatch
from aiida_e3relax.gnn.layers import EdgeGeometry, PaiNNLayer, RadialBasis, displaced
from aiida_e3relax.gnn.layers.gated_vectors import GatedVectorHead
from aiida_e3relax.gnn.models.raw_cell import RawCellRelaxation


class PaiNN(RawCellRelaxation):
    """`RawCellRelaxation` by PaiNN, scaled as in the Open Catalyst Project's code, which the papers use."""

    @dataclasses.dataclass(frozen=True)
    class Hyperparameters:
        """Sizes of the network and of its graph; `cutoff` in A, `max_neighbours` counts before shells are completed."""

        features: int = 128
        layers: int = 4
        radial_functions: int = 32
        cutoff: float = 6.0
        max_neighbours: int = 24

    def __init__(self, hyperparameters: Hyperparameters):
        super().__init__(hyperparameters.features)
        self.hyperparameters = p = hyperparameters
        self.radial_basis = RadialBasis(p.radial_functions, p.cutoff)
        self.layers = nn.ModuleList(PaiNNLayer(p.features, p.radial_functions) for _ in range(p.layers))
        self.gates = GatedVectorHead(p.features)

    def relaxed_atoms(self, x: Tensor, batch: CrystalBatch) -> tuple[Tensor, Tensor]:
        """Return the atoms' fractional coordinates ``(A, 3)`` and scalars ``(A, F)``, from scalars of the elements."""
        vectors = batch.edge_vectors(batch.fractional, batch.cell)
        edges = EdgeGeometry.of(vectors, batch.graph.centre, batch.graph.neighbour, self.radial_basis, len(x))
        v = x.new_zeros(len(x), 3, x.shape[1])
        for index, layer in enumerate(self.layers):
            x, v = layer(x, v, edges, first=index == 0)
        return displaced(batch.fractional, self.gates(x, v), batch.cell, batch), x
