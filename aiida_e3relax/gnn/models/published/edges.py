"""The edges of the published models, in Cartesian coordinates."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from aiida_e3relax.gnn.graph.batch import CrystalBatch


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


def centred(positions: Tensor, batch: CrystalBatch) -> Tensor:
    """Return Cartesian `positions` ``(A, 3)``, in A, from the mean over each crystal's atoms (E3Relax-H2, eq. 19)."""
    return positions - batch.mean_over_atoms(positions)[batch.structure_index]


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
