"""A model of PyTorch Geometric in this framework: ViSNet moves the atoms, DeepRelax's head the cell."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn
from torch_geometric.nn.models.visnet import GatedEquivariantBlock, NeighborEmbedding, ViSNetBlock

from aiida_e3relax.crystals.structures import MAX_ATOMIC_NUMBER
from aiida_e3relax.gnn.graph.batch import CrystalBatch
from aiida_e3relax.gnn.layers import displaced
from aiida_e3relax.gnn.models.raw_cell import RawCellRelaxation


class ViSNetRelaxation(RawCellRelaxation):
    """ViSNet (Wang et al., Nat. Commun. 15, 313 (2024)) over the periodic edges of the batch."""

    capturable = False  # ViSNet picks edges by masks, for which the host waits

    @dataclasses.dataclass(frozen=True)
    class Hyperparameters:
        """Sizes of the network and of its graph; `cutoff` in A, `max_neighbours` counts before shells are completed."""

        features: int = 64
        layers: int = 3
        heads: int = 4
        radial_functions: int = 32
        cutoff: float = 6.0
        max_neighbours: int = 24

    def __init__(self, hyperparameters: Hyperparameters):
        super().__init__(hyperparameters.features)
        self.hyperparameters = p = hyperparameters
        with torch.device('cpu'):  # it computes with numbers here, which the device `meta` has not
            self.visnet = ViSNetBlock(
                lmax=2,
                num_heads=p.heads,
                num_layers=p.layers,
                hidden_channels=p.features,
                num_rbf=p.radial_functions,
                max_z=MAX_ATOMIC_NUMBER + 1,
                cutoff=p.cutoff,
            )
            self.visnet.neighbor_embedding = WithOwnImages(
                p.features, p.radial_functions, p.cutoff, MAX_ATOMIC_NUMBER + 1
            )
        self.visnet.distance = PeriodicEdges()
        self.head = GatedEquivariantBlock(p.features, 1)

    def relaxed_atoms(self, x: Tensor, batch: CrystalBatch) -> tuple[Tensor, Tensor]:
        """Return the atoms' fractional coordinates ``(A, 3)`` and scalars ``(A, F)``; `x` is for models without own."""
        scalars, vectors = self.visnet(batch.numbers, batch.fractional, batch)
        _, displacement = self.head(scalars, vectors[:, :3])  # degree 1; the other five are of degree 2
        return displaced(batch.fractional, displacement[..., 0], batch.cell, batch), x + scalars


class PeriodicEdges(nn.Module):
    """In the place of ViSNet's search for neighbours: the edges that the batch has, across the borders of the cell."""

    def forward(self, fractional: Tensor, batch: CrystalBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``edge_index`` from neighbour to centre, lengths in A, and directions to the neighbour."""
        vectors = batch.edge_vectors(fractional, batch.cell)
        length = vectors.norm(dim=1)
        return torch.stack([batch.graph.neighbour, batch.graph.centre]), length, vectors / length[:, None]


class WithOwnImages(NeighborEmbedding):
    """ViSNet's first messages without its mask: there an edge from an atom to itself is none, here it is an image."""

    def forward(self, z: Tensor, x: Tensor, edge_index: Tensor, edge_weight: Tensor, edge_attr: Tensor) -> Tensor:
        """Return scalars ``(A, F)`` that know the neighbours' elements."""
        filters = self.distance_proj(edge_attr) * self.cutoff(edge_weight)[:, None]
        received = self.propagate(edge_index, x=self.embedding(z), W=filters)
        return self.combine(torch.cat([x, received], dim=1))
