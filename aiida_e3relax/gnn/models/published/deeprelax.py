"""DeepRelax as the authors publish it (Yang et al., Nat. Commun. 15, 8148 (2024))."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from aiida_e3relax.gnn.graph.batch import CrystalBatch, Geometry
from aiida_e3relax.gnn.graph.published import within_and_across_graph
from aiida_e3relax.gnn.graph.shells import Graph
from aiida_e3relax.gnn.layers import CellHead, DotSelfInteraction, RadialBasis, ScaledSiLU, perceptron
from aiida_e3relax.gnn.models.base import Transformation
from aiida_e3relax.gnn.models.distance_geometry import DistancePrediction, displacements_within_bounds
from aiida_e3relax.gnn.models.distance_model import DistanceModel, both_kinds
from aiida_e3relax.gnn.models.published.edges import Edges, edge_vectors
from aiida_e3relax.gnn.models.published.message_passing import MessagePassing
from aiida_e3relax.gnn.models.published.names import SHARED_NAMES, accept_authors_names
from aiida_e3relax.gnn.models.published.relaxation import ELEMENT_ROWS

_NAMES = SHARED_NAMES | {
    r'dist_displace_branch\.': 'displacement_head.branch.',
    r'lin_edge_displace\.': 'displacement_head.edge.',
    r'out_distance_displace\.': 'displacement_head.output.',
    r'dist_relaxed_branch\.': 'relaxed_head.branch.',
    r'lin_edge_relaxed\.': 'relaxed_head.edge.',
    r'out_distance_relaxed\.': 'relaxed_head.output.',
    r'cell_branch\.': 'cell_head.branch.',
    r'lin_cell\.': 'cell_head.cell.',
    r'out_cell\.': 'cell_head.output.',
}


class DeepRelaxPublished(DistanceModel):
    """DeepRelax with the authors' equations and, by `load_state_dict`, with their weights.

    It breaks nearly all that can be broken: its edges and their encoding depend on how atoms are wrapped and on which
    vectors span the lattice, its neighbour lists cut shells, the cell is predicted from nine plain numbers, and the
    solver moves atoms along Cartesian axes. Where distances contradict each other, rounding decides when an atom of the
    solver crosses the edge of a bound.
    """

    @dataclasses.dataclass(frozen=True)
    class Hyperparameters:
        """Sizes as the authors choose them.

        Attributes
        ----------
        features, layers, radial_functions
            Sizes.
        offset_features
            Size of the encoding of an edge's cell offset.
        radial_cutoff
            Reach of the radial basis in A.
        cutoff, max_neighbours, max_within_cell
            The graph's, see `within_and_across_graph`.
        offset_encoding
            Whether edges know the cells that they end in (eqs. 2-3); not in the rows Vanilla and DeepRelaxU of Table 4.
        local_uncertainty
            Whether each distance has a scale of its own; not in the rows Vanilla and DeepRelaxP of Table 4.
        """

        features: int = 512
        layers: int = 4
        radial_functions: int = 128
        offset_features: int = 128
        radial_cutoff: float = 30.0
        cutoff: float = 6.0
        max_neighbours: int = 30
        max_within_cell: int = 20
        offset_encoding: bool = True
        local_uncertainty: bool = True

    breaks = frozenset(Transformation) - {Transformation.TRANSLATION, Transformation.PERMUTATION, Transformation.BATCH}

    def __init__(self, hyperparameters: Hyperparameters):
        super().__init__()
        self.hyperparameters = p = hyperparameters
        edge_features = p.radial_functions + (p.offset_features if p.offset_encoding else 0)
        self.radial_basis = RadialBasis(p.radial_functions, p.radial_cutoff)
        self.embedding = nn.Embedding(ELEMENT_ROWS, p.features)
        self.layers = nn.ModuleList(_Layer(p.features, edge_features) for _ in range(p.layers))
        self.displacement_head = _DistanceHead(p.features, edge_features, p.local_uncertainty)
        self.relaxed_head = _DistanceHead(p.features, edge_features, p.local_uncertainty)
        self.cell_head = CellHead(p.features)
        accept_authors_names(self, _NAMES)

    @property
    def standard_orientation(self) -> bool:
        """Whether the prediction is right only for an input with a along x and b in the xy plane, positive in y."""
        return True

    def graph(self, fractional: Tensor, cell: Tensor, n_atoms: Tensor) -> Graph:
        """Return the edges that the published model uses, of a batch as `neighbour_graph` takes it."""
        p = self.hyperparameters
        return within_and_across_graph(fractional, cell, n_atoms, p.cutoff, p.max_neighbours, p.max_within_cell)

    def distances(self, batch: CrystalBatch) -> DistancePrediction:
        """Return the predicted distances over the batch's edges, and the cell."""
        p, edges = self.hyperparameters, Edges.of(_unrelaxed_positions(batch), batch.cell, batch)
        features = self.radial_basis(edges.length)
        if p.offset_encoding:
            offset = offset_encoding(batch.graph.offset, p.offset_features, batch.cell.dtype)
            features = torch.cat([features, offset], dim=1)
        x = self.embedding(batch.numbers - 1)
        v = x.new_zeros(len(x), 3, x.shape[1])
        for layer in self.layers:
            x, v = layer(x, v, edges, features)
        within = (batch.graph.offset == 0).all(dim=1)
        displacement = self.displacement_head(x, edges.centre[within], edges.neighbour[within], features[within])
        relaxed = self.relaxed_head(x, edges.centre, edges.neighbour, features)
        distance, log_scale = both_kinds((displacement, relaxed))
        return DistancePrediction(within, distance, log_scale, batch.with_fixed_cells(self.cell_head(x, batch)))

    def solve(self, prediction: DistancePrediction, batch: CrystalBatch) -> Geometry:
        """Return the crystals whose distances lie within the predicted bounds, as far as that can be."""
        with torch.no_grad():
            positions, cell = _unrelaxed_positions(batch), prediction.cell
            vectors = edge_vectors(positions, cell, batch)
            positions = positions + displacements_within_bounds(prediction, vectors, batch)
            fractional = torch.einsum('ax,axc->ac', positions, torch.linalg.inv(cell)[batch.structure_index])
        return Geometry(batch.with_fixed_coordinates(fractional), cell)

    def true_distances(self, target: Geometry, prediction: DistancePrediction, batch: CrystalBatch) -> Tensor:
        """Return the ``(D + E,)`` distances between unrelaxed and relaxed, and between relaxed atoms, in A."""
        before, after, graph = _unrelaxed_positions(batch), target.positions(batch), batch.graph
        displaced = after[graph.neighbour] - before[graph.centre]
        relaxed = edge_vectors(after, target.cell, batch)
        return torch.cat([displaced[prediction.displaced], relaxed]).norm(dim=1)


def _unrelaxed_positions(batch: CrystalBatch) -> Tensor:
    return Geometry(batch.fractional, batch.cell).positions(batch)


def offset_encoding(offset: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """Return the ``(E, size)`` sinusoidal encoding of cell offsets ``(E, 3)``, numbered from -2 to 2 in each direction.

    Even entries are sines and odd ones cosines of the number times 10000^(-2k/size), k = 0, 1, ...
    """
    number = ((offset + 2) * offset.new_tensor([1, 5, 25])).sum(dim=1).to(dtype)
    power = torch.arange(0, size, 2, dtype=dtype, device=offset.device) / size
    angle = number[:, None] * 10000.0**-power
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)


class _Layer(nn.Module):
    def __init__(self, features: int, edge_features: int):
        super().__init__()
        self.message_passing = MessagePassing(features, edge_features)
        self.self_interaction = DotSelfInteraction(features)

    def forward(self, x: Tensor, v: Tensor, edges: Edges, edge_features: Tensor) -> tuple[Tensor, Tensor]:
        """Return new scalars ``(A, F)`` and vectors ``(A, 3, F)``."""
        x, v = self.message_passing(x, v, edges, edge_features)
        dx, dv = self.self_interaction(x, v)
        return x + dx, v + dv


class _DistanceHead(nn.Module):
    def __init__(self, features: int, edge_features: int, local_uncertainty: bool):
        super().__init__()
        self.branch = nn.Sequential(nn.Linear(features, features), ScaledSiLU())
        self.edge = nn.Sequential(*perceptron(edge_features, features, features), ScaledSiLU())
        self.output = perceptron(3 * features, features, features, 2 if local_uncertainty else 1)

    def forward(
        self, x: Tensor, centre: Tensor, neighbour: Tensor, edge_features: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Return distances in A and, if stated, the logarithms of their scales, both ``(E,)``."""
        atoms = self.branch(x)
        joined = torch.cat([atoms[centre], atoms[neighbour], self.edge(edge_features)], dim=1)
        distance, *log_scale = self.output(joined).unbind(dim=1)
        return torch.relu(distance), log_scale[0] if log_scale else None
