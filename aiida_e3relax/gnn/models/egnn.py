"""EGNN (Satorras, Hoogeboom and Welling, ICML 2021) as the papers' baseline: coordinates move in every layer."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from aiida_e3relax.gnn.graph.batch import CrystalBatch
from aiida_e3relax.gnn.layers import ScaledSiLU, displaced, perceptron
from aiida_e3relax.gnn.models.raw_cell import RawCellRelaxation


class EGNN(RawCellRelaxation):
    """`RawCellRelaxation` by EGNN: messages know squared distances, atoms move along weighted differences."""

    @dataclasses.dataclass(frozen=True)
    class Hyperparameters:
        """Sizes of the network and of its graph; `cutoff` in A, `max_neighbours` counts before shells are completed."""

        features: int = 128
        layers: int = 4
        cutoff: float = 6.0
        max_neighbours: int = 24

    def __init__(self, hyperparameters: Hyperparameters):
        super().__init__(hyperparameters.features)
        self.hyperparameters = p = hyperparameters
        self.layers = nn.ModuleList(_Layer(p.features, p.cutoff) for _ in range(p.layers))

    def relaxed_atoms(self, x: Tensor, batch: CrystalBatch) -> tuple[Tensor, Tensor]:
        """Return the atoms' fractional coordinates ``(A, 3)`` and scalars ``(A, F)``, from scalars of the elements."""
        fractional = batch.fractional
        for layer in self.layers:
            x, displacement = layer(x, fractional, batch)
            fractional = displaced(fractional, displacement, batch.cell, batch)
        return fractional, x


class _Layer(nn.Module):
    """An equivariant graph convolution (eqs. 3-6).

    Messages are weighted by ``(1 - (d / cutoff)^2)^2`` so that edges come and go smoothly, and atoms move by the
    weighted mean over their neighbours.
    """

    def __init__(self, features: int, cutoff: float):
        super().__init__()
        self.cutoff = cutoff
        self.message = nn.Sequential(*perceptron(2 * features + 1, features, features), ScaledSiLU())
        step = nn.Linear(features, 1, bias=False)
        nn.init.xavier_uniform_(step.weight, gain=1e-3)  # as the authors do: large first steps run away
        self.weight = nn.Sequential(nn.Linear(features, features), ScaledSiLU(), step)
        self.node = perceptron(2 * features, features, features)

    def forward(self, x: Tensor, fractional: Tensor, batch: CrystalBatch) -> tuple[Tensor, Tensor]:
        """Return new scalars ``(A, F)`` and displacements ``(A, 3)`` in A."""
        centre, neighbour = batch.graph.centre, batch.graph.neighbour
        difference = -batch.edge_vectors(fractional, batch.cell)
        squared = difference.square().sum(dim=1, keepdim=True) / self.cutoff**2
        message = self.message(torch.cat([x[centre], x[neighbour], squared], dim=1))
        envelope = (1 - squared).clamp_min(0).square()
        received = x.new_zeros(x.shape).index_add(0, centre, envelope * message)
        steps = torch.cat([difference * self.weight(message), torch.ones_like(envelope)], dim=1)
        total = x.new_zeros(len(x), 4).index_add(0, centre, envelope * steps)
        return x + self.node(torch.cat([x, received], dim=1)), total[:, :3] / (total[:, 3:] + 1e-3)
