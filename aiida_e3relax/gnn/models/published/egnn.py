"""EGNN (Satorras, Hoogeboom and Welling, ICML 2021) as its authors' code computes it."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from aiida_e3relax.gnn.graph.batch import CrystalBatch
from aiida_e3relax.gnn.models.published.baseline import PublishedBaseline
from aiida_e3relax.gnn.models.published.edges import edge_vectors
from aiida_e3relax.gnn.models.published.relaxation import geometry_of


class EGNNPublished(PublishedBaseline):
    """`PublishedBaseline` by EGNN, with the choices that its authors' code has by default.

    It leaves our `EGNN` in the graph, in the steps of atoms and cell (see `PublishedBaseline`), and in the layers:
    messages do not fade with distance, an atom moves by the plain mean over its neighbours, squared distances are those
    in A^2, and the activation is SiLU as it is. The authors' code has four layers by default and no default size; the
    size is ours. Its features of edges are not used.
    """

    @dataclasses.dataclass(frozen=True)
    class Hyperparameters:
        """Sizes of the network and of its graph; `cutoff` in A and `max_neighbours` as of `nearest_neighbour_graph`."""

        features: int = 128
        layers: int = 4
        cutoff: float = 6.0
        max_neighbours: int = 50

    def __init__(self, hyperparameters: Hyperparameters):
        super().__init__(hyperparameters.features)
        self.hyperparameters = p = hyperparameters
        self.layers = nn.ModuleList(_Layer(p.features) for _ in range(p.layers))

    def relaxed_atoms(self, x: Tensor, positions: Tensor, batch: CrystalBatch) -> tuple[Tensor, Tensor]:
        """Return the atoms' positions ``(A, 3)`` in A and scalars ``(A, F)``, from their first ones."""
        for layer in self.layers:
            x, positions = layer(x, positions, batch)
            if batch.fixed is not None:
                positions = geometry_of(positions, batch.cell, batch).positions(batch)
        return positions, x


class _Layer(nn.Module):
    """An equivariant graph convolution (eqs. 3-6), whose steps are means."""

    def __init__(self, features: int):
        super().__init__()
        self.message = nn.Sequential(
            nn.Linear(2 * features + 1, features), nn.SiLU(), nn.Linear(features, features), nn.SiLU()
        )
        step = nn.Linear(features, 1, bias=False)
        nn.init.xavier_uniform_(step.weight, gain=1e-3)
        self.weight = nn.Sequential(nn.Linear(features, features), nn.SiLU(), step)
        self.node = nn.Sequential(nn.Linear(2 * features, features), nn.SiLU(), nn.Linear(features, features))

    def forward(self, x: Tensor, positions: Tensor, batch: CrystalBatch) -> tuple[Tensor, Tensor]:
        """Return new scalars ``(A, F)`` and positions ``(A, 3)`` in A."""
        centre, neighbour = batch.graph.centre, batch.graph.neighbour
        difference = -edge_vectors(positions, batch.cell, batch)
        squared = difference.square().sum(dim=1, keepdim=True)
        message = self.message(torch.cat([x[centre], x[neighbour], squared], dim=1))
        steps = torch.cat([difference * self.weight(message), torch.ones_like(squared)], dim=1)
        received = x.new_zeros(x.shape).index_add(0, centre, message)
        total = x.new_zeros(len(x), 4).index_add(0, centre, steps)
        moved = positions + total[:, :3] / total[:, 3:].clamp_min(1)
        return x + self.node(torch.cat([x, received], dim=1)), moved
