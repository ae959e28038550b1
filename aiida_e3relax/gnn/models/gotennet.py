"""GotenNet (Aykent and Xia, ICLR 2025) as the papers' baseline: attention refined by steerable features.

Written anew from the equations that the authors' code computes, with the spherical harmonics of e3nn and the sums of
torch-geometric. Their package `gotennet` is no base for an adapter: version 1.1.2 needs torch-cluster, torch-scatter
and torch-sparse, whose builds from source ask for a torch that pip does not show them, and does not import without
packages that it leaves to another of its extras; its graphs are those of molecules, without periodic images. The
package `gotennet-pytorch` takes dense matrices of distances.

E3Relax-H2 (section 5.2) and E3Relax (appendix C) take the authors' code with its default sizes and do not state its
heads; here they are those that they give PaiNN: gated vectors to displacements, and DeepRelax's head for the cell.

Other than in the authors' code:

- The share of a neighbour in the attention is weighted by the envelope of the radial basis and counts beside a small
  constant, so that edges come and go smoothly; theirs leaves the attention at the cutoff as it is.
- Heads split every product of the attention; theirs split the vector of all products.
- The radial basis, its envelope and the activation are those of the other models here (theirs: exponential Gaussians, a
  cosine and SiLU), and there is no dropout.
- Features beyond a bound are shortened, see `limited`; theirs are unbounded, or all normalised, which they leave off.
"""

from __future__ import annotations

import dataclasses

import torch
from e3nn import o3
from torch import Tensor, nn
from torch_geometric.utils import scatter

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.common.fields import number
from aiida_e3relax.crystals.structures import MAX_ATOMIC_NUMBER
from aiida_e3relax.gnn.graph.batch import CrystalBatch
from aiida_e3relax.gnn.layers import MAX_DEGREE, EdgeGeometry, RadialBasis, ScaledSiLU, displaced, limited, perceptron
from aiida_e3relax.gnn.layers.gated_vectors import GatedVectorHead
from aiida_e3relax.gnn.layers.steerable import components, scaled_by_degree, sums_by_degree
from aiida_e3relax.gnn.models.raw_cell import RawCellRelaxation

NO_NEIGHBOUR = 1e-3
"""What attention has for none of the neighbours, beside the exponentials of their scores: see `_shares`."""


class GotenNet(RawCellRelaxation):
    """`RawCellRelaxation` by GotenNet: scalars of atoms and edges, and F steerable features of every degree from 1."""

    @dataclasses.dataclass(frozen=True)
    class Hyperparameters:
        """Sizes of the network and of its graph.

        `features` must be a multiple of `heads`, those of the attention. `l_max` is the highest degree of the steerable
        features, `cutoff` in A, `max_neighbours` counts before shells are completed.
        """

        features: int = 128
        layers: int = 4
        heads: int = number(8, 1)
        l_max: int = number(2, 1, MAX_DEGREE)
        radial_functions: int = 32
        cutoff: float = 6.0
        max_neighbours: int = 24

        def __post_init__(self) -> None:
            """Raise InputError where the features cannot be split among the heads."""
            if self.features % self.heads:
                raise InputError(
                    f'gotennet: features: expected a multiple of the {self.heads} heads, found {self.features}; '
                    'change either'
                )

    def __init__(self, hyperparameters: Hyperparameters):
        super().__init__(hyperparameters.features)
        self.hyperparameters = p = hyperparameters
        degrees = range(1, p.l_max + 1)
        self.radial_basis = RadialBasis(p.radial_functions, p.cutoff)
        self.start = _Start(p.features, p.radial_functions)
        self.layers = nn.ModuleList(
            _Layer(p.features, p.heads, degrees, last=index == p.layers - 1) for index in range(p.layers)
        )
        self.gates = GatedVectorHead(p.features)

    def relaxed_atoms(self, x: Tensor, batch: CrystalBatch) -> tuple[Tensor, Tensor]:
        """Return the atoms' fractional coordinates ``(A, 3)`` and scalars ``(A, F)``, from scalars of the elements."""
        vectors = batch.edge_vectors(batch.fractional, batch.cell)
        edges = EdgeGeometry.of(vectors, batch.graph.centre, batch.graph.neighbour, self.radial_basis, len(x))
        degrees = list(range(1, self.hyperparameters.l_max + 1))
        harmonics = o3.spherical_harmonics(degrees, edges.direction, normalize=False, normalization='norm')[..., None]
        x, bond = self.start(x, batch.numbers, edges)
        steerable = x.new_zeros(len(x), harmonics.shape[1], x.shape[1])
        for layer in self.layers:
            x, steerable, bond = layer(x, steerable, bond, harmonics, edges)
        return displaced(batch.fractional, self.gates(x, steerable[:, :3]), batch.cell, batch), x


class _Start(nn.Module):
    """The first scalars: an atom's know its neighbours' elements (eqs. 1-2), an edge's its length and ends (eq. 3)."""

    def __init__(self, features: int, radial_functions: int):
        super().__init__()
        self.neighbours = nn.Embedding(MAX_ATOMIC_NUMBER + 1, features)
        self.radial_filter = nn.Linear(radial_functions, features)
        self.mix = nn.Sequential(
            nn.Linear(2 * features, features), nn.LayerNorm(features), ScaledSiLU(), nn.Linear(features, features)
        )
        self.bond_filter = nn.Linear(radial_functions, features)

    def forward(self, x: Tensor, numbers: Tensor, edges: EdgeGeometry) -> tuple[Tensor, Tensor]:
        """Return the scalars of atoms ``(A, F)`` and edges ``(E, F)``, from those of the elements."""
        envelope = edges.radial_basis.envelope(edges.distance)[:, None]
        sent = self.neighbours(numbers)[edges.neighbour] * self.radial_filter(edges.radial) * envelope
        x = self.mix(torch.cat([x, scatter(sent, edges.centre, dim_size=len(x))], dim=1))
        return x, (x[edges.centre] + x[edges.neighbour]) * self.bond_filter(edges.radial)


class _Layer(nn.Module):
    """Geometry-aware tensor attention, hierarchical tensor refinement, and the equivariant feed-forward network."""

    def __init__(self, features: int, heads: int, degrees: range, last: bool):
        super().__init__()
        self.attention = _Attention(features, heads, degrees)
        self.refinement = None if last else _Refinement(features, degrees)
        self.feed_forward = _FeedForward(features)

    def forward(
        self, x: Tensor, steerable: Tensor, bond: Tensor, harmonics: Tensor, edges: EdgeGeometry
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the new scalars ``(A, F)``, steerable features ``(A, D, F)`` and scalars of the edges ``(E, F)``."""
        dx, change = self.attention(x, steerable, bond, harmonics, edges)
        x, steerable = limited(x + dx), limited(steerable + change)
        if self.refinement is not None:
            bond = limited(bond + self.refinement(steerable, bond, harmonics, edges))
        dx, change = self.feed_forward(x, steerable)
        return limited(x + dx), limited(steerable + change), bond


class _Attention(nn.Module):
    """Messages of scalars, of directions and of neighbours' steerable features, by attention and by distance."""

    def __init__(self, features: int, heads: int, degrees: range):
        super().__init__()
        self.features, self.heads, self.degrees = features, heads, degrees
        self.messages = 1 + 2 * len(degrees)
        self.query = nn.Linear(features, features)
        self.key = nn.Linear(features, features)
        self.bond_key = nn.Sequential(nn.Linear(features, features), ScaledSiLU())
        self.value = perceptron(features, features, self.messages * features)
        self.source = perceptron(features, features, self.messages * features)
        self.bond_filter = nn.Linear(features, self.messages * features)

    def forward(
        self, x: Tensor, steerable: Tensor, bond: Tensor, harmonics: Tensor, edges: EdgeGeometry
    ) -> tuple[Tensor, Tensor]:
        """Return what is added to scalars ``(A, F)`` and steerable features ``(A, D, F)``."""
        n, neighbour, shape = len(x), edges.neighbour, (-1, self.messages, self.features)
        envelope = edges.radial_basis.envelope(edges.distance)[:, None]
        score = self.query(x)[edges.centre] * self.key(x)[neighbour] * self.bond_key(bond)
        score = score.view(-1, self.heads, self.features // self.heads).sum(dim=2)
        share = _shares(score, envelope, edges.centre, n) * self.features**-0.5
        share = share.repeat_interleave(self.features // self.heads, dim=1)
        by_distance = self.source(x)[neighbour] * self.bond_filter(bond) * envelope
        message = by_distance.view(shape) + share[:, None] * self.value(x)[neighbour].view(shape)
        count = len(self.degrees)
        to_scalar, along_edge, from_steerable = message.split([1, count, count], dim=1)
        change = scaled_by_degree(harmonics, along_edge, self.degrees)
        change = change + scaled_by_degree(steerable[neighbour], from_steerable, self.degrees)
        sums = scatter(torch.cat([to_scalar, change], dim=1), edges.centre, dim_size=n)
        return sums[:, 0], sums[:, 1:]


def _shares(score: Tensor, envelope: Tensor, centre: Tensor, n_atoms: int) -> Tensor:
    """Return the edges' shares ``(E, H)`` of their centre's attention, a softmax with weights and one place more.

    That is ``w exp(s) / (NO_NEIGHBOUR + sum of w exp(s))`` with scores s ``(E, H)`` and the `envelope` w ``(E, 1)``.
    The largest exponent, weights included, is taken off all, so that the sum neither overflows nor vanishes: without
    its weight it could be that of an edge at the cutoff, which counts for nothing.
    """
    logarithm = torch.log(envelope.clamp_min(torch.finfo(envelope.dtype).tiny))  # of 0 it would have no gradient
    exponent = score + logarithm.masked_fill(envelope <= 0, -torch.inf)
    largest = scatter(exponent.detach(), centre, dim_size=n_atoms, reduce='max').clamp_min(0)
    weight = torch.exp(exponent - largest[centre])
    total = scatter(weight, centre, dim_size=n_atoms) + NO_NEIGHBOUR * torch.exp(-largest)
    return weight / total[centre]


class _Refinement(nn.Module):
    """What an edge learns from the steerable features of its ends, across it: scalar products of each degree."""

    def __init__(self, features: int, degrees: range):
        super().__init__()
        self.degrees = degrees
        self.query = nn.Linear(features, features, bias=False)
        self.keys = nn.ModuleList(nn.Linear(features, features, bias=False) for _ in degrees)
        self.bond = nn.Sequential(nn.Linear(features, features), ScaledSiLU())

    def forward(self, steerable: Tensor, bond: Tensor, harmonics: Tensor, edges: EdgeGeometry) -> Tensor:
        """Return what is added to the scalars of the edges ``(E, F)``.

        The parts of both ends' features along the harmonics of the edge are taken off before the product.
        """
        parts = zip(self.keys, steerable.split(components(self.degrees), dim=1), strict=True)
        key = torch.cat([linear(part) for linear, part in parts], dim=1)[edges.neighbour]
        query = self.query(steerable)[edges.centre]
        along = sums_by_degree(query * harmonics, self.degrees) * sums_by_degree(key * harmonics, self.degrees)
        return self.bond(bond) * ((query * key).sum(dim=1) - along.sum(dim=1))


class _FeedForward(nn.Module):
    """Scalars learn from the lengths of the steerable features, which are rescaled and mixed."""

    def __init__(self, features: int):
        super().__init__()
        self.steerable_mix = nn.Linear(features, features, bias=False)
        self.scalar_mix = perceptron(2 * features, features, 2 * features)

    def forward(self, x: Tensor, steerable: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is added to scalars ``(A, F)`` and steerable features ``(A, D, F)``."""
        mixed = self.steerable_mix(steerable)
        length = torch.sqrt(mixed.square().sum(dim=1) + 1e-8)
        shift, rescale = self.scalar_mix(torch.cat([x, length], dim=1)).chunk(2, dim=1)
        return shift, rescale[:, None] * mixed
