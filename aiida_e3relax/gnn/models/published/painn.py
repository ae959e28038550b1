"""PaiNN (Schütt, Unke and Gastegger, ICML 2021) as the code of the Open Catalyst Project computes it."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from aiida_e3relax.gnn.graph.batch import CrystalBatch
from aiida_e3relax.gnn.layers import DotSelfInteraction, RadialBasis, perceptron
from aiida_e3relax.gnn.layers.gated_vectors import GatedVectorHead
from aiida_e3relax.gnn.models.published.baseline import PublishedBaseline
from aiida_e3relax.gnn.models.published.edges import Edges


class PaiNNPublished(PublishedBaseline):
    """`PublishedBaseline` by PaiNN, with the sizes that the Open Catalyst Project's code has by default.

    It leaves our `PaiNN` in the graph, in the steps of atoms and cell (see `PublishedBaseline`), and in the messages:
    radial filters with a bias, so that a message ends abruptly where its edge does; scalars normalised before they are
    sent; and factors of 3^-1/2 on the neighbours' vectors alone, where DeepRelax's code, and ours, has it on all
    messages. That code also makes the graph symmetric by keeping of every pair of atoms the edge that the order of the
    atoms names; a prediction here does not depend on that order.
    """

    @dataclasses.dataclass(frozen=True)
    class Hyperparameters:
        """Sizes of the network and of its graph.

        `radial_cutoff` is the reach of the radial basis in A; `cutoff` and `max_neighbours` are the graph's, see
        `nearest_neighbour_graph`.
        """

        features: int = 512
        layers: int = 6
        radial_functions: int = 128
        radial_cutoff: float = 12.0
        cutoff: float = 6.0
        max_neighbours: int = 50

    def __init__(self, hyperparameters: Hyperparameters):
        super().__init__(hyperparameters.features)
        self.hyperparameters = p = hyperparameters
        self.radial_basis = RadialBasis(p.radial_functions, p.radial_cutoff)
        self.layers = nn.ModuleList(_Layer(p.features, p.radial_functions) for _ in range(p.layers))
        self.gates = GatedVectorHead(p.features)

    def relaxed_atoms(self, x: Tensor, positions: Tensor, batch: CrystalBatch) -> tuple[Tensor, Tensor]:
        """Return the atoms' positions ``(A, 3)`` in A and scalars ``(A, F)``, from their first ones."""
        edges = Edges.of(positions, batch.cell, batch)
        radial = self.radial_basis(edges.length)
        v = x.new_zeros(len(x), 3, x.shape[1])
        for layer in self.layers:
            x, v = layer(x, v, edges, radial)
        return positions + self.gates(x, v), x


class _Layer(nn.Module):
    def __init__(self, features: int, radial_functions: int):
        super().__init__()
        self.normalisation = nn.LayerNorm(features)
        self.source = perceptron(features, features, 3 * features)
        self.edge_filter = nn.Linear(radial_functions, 3 * features)
        self.self_interaction = DotSelfInteraction(features)

    def forward(self, x: Tensor, v: Tensor, edges: Edges, radial: Tensor) -> tuple[Tensor, Tensor]:
        """Return new scalars ``(A, F)`` and vectors ``(A, 3, F)``, from the radial basis ``(E, K)`` of the edges."""
        message = self.source(self.normalisation(x))[edges.neighbour] * self.edge_filter(radial)
        to_scalar, to_vector, along_edge = message.chunk(3, dim=1)
        vector = to_vector[:, None] * v[edges.neighbour] * 3**-0.5 + along_edge[:, None] * edges.direction[..., None]
        x = torch.index_add(x, 0, edges.centre, to_scalar) * 2**-0.5
        v = torch.index_add(v, 0, edges.centre, vector * x.shape[1] ** -0.5)
        dx, dv = self.self_interaction(x, v)
        return x + dx, v + dv
