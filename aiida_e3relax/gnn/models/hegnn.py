"""HEGNN (Cen et al., NeurIPS 2024, arXiv 2410.11443) as the papers' baseline: EGNN with steerable features.

Written anew from the equations that the authors' code computes, with the spherical harmonics of e3nn and the sums of
torch-geometric: no package holds it, and the authors' repository is a set of scripts. E3Relax-H2 (section 5.2) and
E3Relax (appendix C) take it from there with its default sizes and do not state its heads; here they are EGNN's, which
it generalises: coordinates move in every layer, and DeepRelax's head predicts the cell. It leaves the authors' code
where our `EGNN` leaves that of EGNN, so that a symmetry that holds for molecules holds for crystals; see `_Layer`.
"""

from __future__ import annotations

import dataclasses

import torch
from e3nn import o3
from torch import Tensor, nn
from torch_geometric.utils import scatter

from aiida_e3relax.common.fields import number
from aiida_e3relax.gnn.graph.batch import CrystalBatch
from aiida_e3relax.gnn.layers import MAX_DEGREE, ScaledSiLU, displaced, limited, perceptron
from aiida_e3relax.gnn.layers.steerable import scaled_by_degree, sums_by_degree
from aiida_e3relax.gnn.models.raw_cell import RawCellRelaxation


class HEGNN(RawCellRelaxation):
    """`RawCellRelaxation` by HEGNN: messages know the scalar products of their ends' features of every degree."""

    @dataclasses.dataclass(frozen=True)
    class Hyperparameters:
        """Sizes of the network and of its graph.

        `l_max` is the highest degree of the steerable features, `cutoff` in A, `max_neighbours` counts before shells
        are completed.
        """

        features: int = 128
        layers: int = 4
        l_max: int = number(2, 1, MAX_DEGREE)
        cutoff: float = 6.0
        max_neighbours: int = 24

    def __init__(self, hyperparameters: Hyperparameters):
        super().__init__(hyperparameters.features)
        self.hyperparameters = p = hyperparameters
        degrees = range(p.l_max + 1)
        self.start = _Start(p.features, degrees)
        self.layers = nn.ModuleList(_Layer(p.features, degrees) for _ in range(p.layers))

    def relaxed_atoms(self, x: Tensor, batch: CrystalBatch) -> tuple[Tensor, Tensor]:
        """Return the atoms' fractional coordinates ``(A, 3)`` and scalars ``(A, F)``, from scalars of the elements."""
        fractional, steerable = batch.fractional, None
        for layer in self.layers:
            edges = _Edges.of(fractional, batch, self.cutoff)
            if steerable is None:
                steerable = self.start(x, edges)
            x, steerable, displacement = layer(x, steerable, edges)
            fractional = displaced(fractional, displacement, batch.cell, batch)
        return fractional, x


@dataclasses.dataclass(frozen=True)
class _Edges:
    """Edges j -> i, their vectors from j to i ``(E, 3)`` in A, and squared lengths ``(E, 1)`` over the cutoff's."""

    centre: Tensor
    neighbour: Tensor
    vectors: Tensor
    squared: Tensor

    @staticmethod
    def of(fractional: Tensor, batch: CrystalBatch, cutoff: float) -> _Edges:
        """Return the edges of `batch` at `fractional` ``(A, 3)``."""
        vectors = -batch.edge_vectors(fractional, batch.cell)
        squared = vectors.square().sum(dim=1, keepdim=True) / cutoff**2
        return _Edges(batch.graph.centre, batch.graph.neighbour, vectors, squared)

    def ends(self, x: Tensor) -> Tensor:
        """Return ``(E, 2F + 1)`` the scalars ``(A, F)`` of both ends, and the squared length."""
        return torch.cat([x[self.centre], x[self.neighbour], self.squared], dim=1)

    def means(self, values: Tensor, n_atoms: int) -> Tensor:
        """Return the means ``(A, ...)`` over an atom's edges of `values` ``(E, ...)``, near ones counting more."""
        envelope = (1 - self.squared).clamp_min(0).square()
        counted = envelope * torch.cat([values, torch.ones_like(envelope)], dim=1)
        total = scatter(counted, self.centre, dim_size=n_atoms)
        return total[:, :-1] / (total[:, -1:] + 1e-3)


class _Start(nn.Module):
    """The first steerable features: means of the directions' spherical harmonics, weighted by functions of the ends."""

    def __init__(self, features: int, degrees: range):
        super().__init__()
        self.degrees = degrees
        self.weight = perceptron(2 * features + 1, features, len(degrees))

    def forward(self, x: Tensor, edges: _Edges) -> Tensor:
        """Return one feature of each degree ``(A, D)``, from scalars ``(A, F)``."""
        weight = self.weight(edges.ends(x))
        harmonics = o3.spherical_harmonics(list(self.degrees), edges.vectors, normalize=True, normalization='norm')
        return edges.means(scaled_by_degree(harmonics, weight, self.degrees), len(x))


class _Layer(nn.Module):
    """A round of messages of scalars, and of the steerable features' and the atoms' differences, weighted by them.

    As in our `EGNN`, and other than in the authors' code: all means over neighbours are weighted by
    ``(1 - (d / cutoff)^2)^2`` so that edges come and go smoothly; squared distances are in units of the cutoff's
    square; the step of an atom has no bias and begins small; and the new scalars are added to the old ones.
    """

    def __init__(self, features: int, degrees: range):
        super().__init__()
        self.degrees = degrees
        inputs = 2 * features + 1 + len(degrees)
        self.message = nn.Sequential(*perceptron(inputs, features, features), ScaledSiLU())
        step = nn.Linear(features, 1, bias=False)
        nn.init.xavier_uniform_(step.weight, gain=1e-3)
        self.step = nn.Sequential(nn.Linear(features, features), ScaledSiLU(), step)
        self.weight = perceptron(features, features, len(degrees))
        self.node = perceptron(2 * features, features, features)

    def forward(self, x: Tensor, steerable: Tensor, edges: _Edges) -> tuple[Tensor, Tensor, Tensor]:
        """Return new scalars ``(A, F)`` and steerable features ``(A, D)``, and displacements ``(A, 3)`` in A."""
        own, other = steerable[edges.centre], steerable[edges.neighbour]
        products = sums_by_degree(own * other, self.degrees)
        message = self.message(torch.cat([edges.ends(x), products], dim=1))
        turned = scaled_by_degree(own - other, self.weight(message), self.degrees)
        sent = torch.cat([message, turned, edges.vectors * self.step(message)], dim=1)
        sizes = [x.shape[1], steerable.shape[1], 3]
        received, change, displacement = edges.means(sent, len(x)).split(sizes, dim=1)
        x = x + self.node(torch.cat([x, received], dim=1))
        return limited(x), limited(steerable + change), displacement
