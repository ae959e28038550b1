"""EquiformerV2 (Liao, Wood, Das and Smidt, ICLR 2024) as the papers' baseline: forces become displacements."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aiida_e3relax.crystals.structures import MAX_ATOMIC_NUMBER
from aiida_e3relax.gnn.graph.batch import CrystalBatch
from aiida_e3relax.gnn.layers import EdgeGeometry, RadialBasis, displaced
from aiida_e3relax.gnn.models.base import Transformation
from aiida_e3relax.gnn.models.equiformer_v2.attention import Block, EdgeContext, GraphAttention, radial_function
from aiida_e3relax.gnn.models.equiformer_v2.edge_frames import EdgeFrames
from aiida_e3relax.gnn.models.equiformer_v2.hyperparameters import EquiformerV2Hyperparameters
from aiida_e3relax.gnn.models.equiformer_v2.linear import SeparableLayerNorm
from aiida_e3relax.gnn.models.raw_cell import RawCellRelaxation


class EquiformerV2(RawCellRelaxation):
    """`RawCellRelaxation` by EquiformerV2, whose last attention, the authors' head of forces, gives displacements.

    Theirs: features of degrees up to `l_max`; edge-degree embedding; blocks of equivariant graph attention over eSCN
    convolutions (Passaro and Zitnick, ICML 2023) with attention re-normalisation, separable S2 activation and separable
    layer norm, and of a feed-forward part. Left out: dropout and stochastic depth, the rescaling of degrees above
    `m_max`, the random turn of an edge's frame about the edge, and the energy head. Changed: edges fade out at the
    cutoff; frames of edges carry gradients; one embedding of the edges' elements for all blocks; the grid of the S2
    activation is Gauss-Legendre; norms do not enlarge what is small; feed-forward parts are those of the paper, without
    perceptrons on the grid.

    As the authors have it, the network is not quite equivariant: the S2 activation follows rotations to the accuracy of
    its grid, and convolutions tell left from right, so that a mirror plane or an inversion centre of the input is lost.
    With ``activation='gate'`` and ``chiral=False`` atoms follow all transformations exactly.
    """

    Hyperparameters = EquiformerV2Hyperparameters
    hyperparameters: EquiformerV2Hyperparameters
    breaks = RawCellRelaxation.breaks | {Transformation.SITE_SYMMETRY}

    def __init__(self, hyperparameters: EquiformerV2Hyperparameters):
        super().__init__(hyperparameters.features)
        self.hyperparameters = p = hyperparameters
        if p.features % p.heads:
            raise ValueError(f'features: expected a multiple of the {p.heads} heads, found {p.features}')
        if not 1 <= p.m_max <= p.l_max:
            raise ValueError(f'm_max: expected an order from 1 to l_max, {p.l_max}, found {p.m_max}')
        if p.activation == 'gate' and not p.chiral:
            self.breaks = RawCellRelaxation.breaks
        self.radial_basis = RadialBasis(p.radial_functions, p.cutoff)
        self.frames = EdgeFrames(p.orders)
        self.of_centre = nn.Embedding(MAX_ATOMIC_NUMBER + 1, p.features)
        self.of_neighbour = nn.Embedding(MAX_ATOMIC_NUMBER + 1, p.features)
        scalars = p.radial_functions + 2 * p.features
        self.edge_degree = radial_function(scalars, p.features, (p.l_max + 1) * p.features)
        self.layers = nn.ModuleList(Block(p, scalars) for _ in range(p.layers))
        self.norm = SeparableLayerNorm(p.features, p.l_max)
        self.displacement = GraphAttention(p, scalars, 1)

    def relaxed_atoms(self, x: Tensor, batch: CrystalBatch) -> tuple[Tensor, Tensor]:
        """Return the atoms' fractional coordinates ``(A, 3)`` and scalars ``(A, F)``, from scalars of the elements."""
        edges = self._edges(batch)
        features = self._edge_degrees(edges, len(x))
        features = torch.cat([features[:, :1] + x[:, None], features[:, 1:]], dim=1)
        for layer in self.layers:
            features = layer(features, edges)
        features = self.norm(features)
        displacement = self.displacement(features, edges)[:, 1:4, 0]
        return displaced(batch.fractional, displacement, batch.cell, batch), features[:, 0]

    def _edges(self, batch: CrystalBatch) -> EdgeContext:
        """Return the edges of `batch`."""
        graph, numbers = batch.graph, batch.numbers
        vectors = batch.edge_vectors(batch.fractional, batch.cell)
        edges = EdgeGeometry.of(vectors, graph.centre, graph.neighbour, self.radial_basis, len(numbers))
        elements = [self.of_centre(numbers)[graph.centre], self.of_neighbour(numbers)[graph.neighbour]]
        return EdgeContext(
            graph.centre,
            graph.neighbour,
            self.frames(edges.direction),
            torch.cat([edges.radial, *elements], dim=1),
            self.radial_basis.envelope(edges.distance),
        )

    def _edge_degrees(self, edges: EdgeContext, n_atoms: int) -> Tensor:
        """Return the initial features ``(A, N, F)``: the surroundings, scaled to the variance of one edge."""
        p = self.hyperparameters
        radial = self.edge_degree(edges.scalars) * edges.envelope[:, None]
        return edges.sum_over_neighbours(radial.unflatten(1, (p.l_max + 1, -1)), n_atoms) / p.max_neighbours**0.5
