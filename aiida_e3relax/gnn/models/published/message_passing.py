"""Message passing between atoms as the three published models have it in common."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from aiida_e3relax.gnn.batch import CrystalBatch
from aiida_e3relax.gnn.layers import perceptron


def clamped_norm(vectors: Tensor) -> Tensor:
    """Return the norm over the last axis, at least 1e-4."""
    return vectors.square().sum(dim=-1).clamp_min(1e-8).sqrt()


def edge_vectors(positions: Tensor, cell: Tensor, batch: CrystalBatch) -> Tensor:
    """Return the ``(E, 3)`` vectors from centre to neighbour, in A, at Cartesian `positions` and `cell`, in A.

    The published models keep Cartesian positions where the cell changes, so `CrystalBatch.edge_vectors` is not theirs.
    """
    graph = batch.graph
    shift = torch.einsum('ec,ecx->ex', graph.offset.to(cell.dtype), cell[batch.structure_index[graph.centre]])
    return positions[graph.neighbour] + shift - positions[graph.centre]


@dataclasses.dataclass(frozen=True)
class Edges:
    """Edges j -> i with their `length` ``(E,)`` in A, and `direction` ``(E, 3)`` from neighbour j to centre i."""

    centre: Tensor
    neighbour: Tensor
    length: Tensor
    direction: Tensor

    @staticmethod
    def of(positions: Tensor, cell: Tensor, batch: CrystalBatch, softening: float = 0.0) -> Edges:
        """Return the batch's edges at Cartesian `positions` ``(A, 3)`` and `cell` ``(S, 3, 3)``, in A.

        `softening` is added to the length, in A, where the direction is divided by it.
        """
        graph, vectors = batch.graph, edge_vectors(positions, cell, batch)
        length = vectors.norm(dim=1)
        return Edges(graph.centre, graph.neighbour, length, -vectors / (length + softening)[:, None])


class MessagePassing(nn.Module):
    """Scalar and vector messages from neighbours, filtered by features of the edge (PaiNN's, scaled)."""

    def __init__(self, features: int, edge_features: int):
        super().__init__()
        self.features = features
        self.source = perceptron(features, features // 2, 3 * features)
        self.edge_filter = nn.Linear(edge_features, 3 * features)

    def forward(
        self, x: Tensor, v: Tensor, edges: Edges, edge_features: Tensor, gate: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return scalars ``(A, F)`` and vectors ``(A, 3, F)`` with the sums of messages added.

        Parameters
        ----------
        x, v
            Scalar ``(A, F)`` and vector ``(A, 3, F)`` features.
        edges
            Geometry of the edges.
        edge_features
            ``(E, K)`` what the filters are made from.
        gate
            ``(E, 3F)`` factors of the filters; None for ones.
        """
        filters = self.edge_filter(edge_features)
        if gate is not None:
            filters = filters * gate
        messages = self.source(x)[edges.neighbour] * filters * 3**-0.5
        to_vector, along_edge, to_scalar = messages.split(self.features, dim=-1)
        vector = to_vector[:, None] * v[edges.neighbour] + along_edge[:, None] * edges.direction[:, :, None]
        x = x.index_add(0, edges.centre, to_scalar) * 2**-0.5
        return x, v.index_add(0, edges.centre, vector * self.features**-0.5)
