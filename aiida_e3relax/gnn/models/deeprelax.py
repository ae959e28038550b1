"""DeepRelax, symmetric form (Yang et al., Nat. Commun. 15, 8148 (2024))."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from aiida_e3relax.crystals.structures import MAX_ATOMIC_NUMBER
from aiida_e3relax.gnn.graph.batch import CrystalBatch, Geometry
from aiida_e3relax.gnn.layers import (
    AtomsToLattice,
    EdgeGeometry,
    LatticeState,
    PaiNNLayer,
    RadialBasis,
    ScaledSiLU,
    bounded,
    inverse,
    matrix_exponential,
    perceptron,
    volume,
    without_drift,
)
from aiida_e3relax.gnn.layers.displacement import LARGEST_DISPLACEMENT
from aiida_e3relax.gnn.models.distance_geometry import DistancePrediction, most_likely_displacements
from aiida_e3relax.gnn.models.distance_model import DistanceModel, both_kinds
from aiida_e3relax.gnn.models.losses import Target, nearest_image_vectors
from aiida_e3relax.gnn.models.symmetric import VOLUME_SCALE, SymmetricHyperparameters, SymmetricModel


class DeepRelax(SymmetricModel, DistanceModel):
    """Relaxed crystals from predicted distances.

    PaiNN's layers give the atoms' features; a lattice node, which knows the volume per atom instead of the raw cell,
    gives a symmetric strain. Distances are predicted as changes of the edges that the unrelaxed atoms have when they
    follow the cell, on all edges of the graph; edges of equal lengths differ not by the cell they end in, but by
    the atoms' vectors along them.
    """

    @dataclasses.dataclass(frozen=True)
    class Hyperparameters(SymmetricHyperparameters):
        """Those of `SymmetricHyperparameters`, and what the paper's ablation leaves out (Table 4).

        Attributes
        ----------
        vectors_along_edges
            Whether distances know the atoms' vectors along the edges, which tell edges of equal lengths apart, as the
            paper's encoding of cell offsets does.
        local_uncertainty
            Whether each distance has a scale of its own.
        """

        vectors_along_edges: bool = True
        local_uncertainty: bool = True

    hyperparameters: Hyperparameters

    def __init__(self, hyperparameters: Hyperparameters):
        super().__init__(hyperparameters)
        p = hyperparameters
        self.radial_basis = RadialBasis(p.radial_functions, p.cutoff)
        self.embedding = nn.Embedding(MAX_ATOMIC_NUMBER + 1, p.features)
        self.layers = nn.ModuleList(PaiNNLayer(p.features, p.radial_functions) for _ in range(p.layers))
        self.volume_basis = RadialBasis(p.radial_functions, VOLUME_SCALE)
        self.lattice_embedding = perceptron(p.radial_functions, p.features, p.features)
        self.atoms_to_lattice = AtomsToLattice(p.features, p.radial_functions, p.strain_channels)
        self.displacement_head = _DistanceHead(p)
        self.relaxed_head = _DistanceHead(p)

    def distances(self, batch: CrystalBatch) -> DistancePrediction:
        """Return the predicted distances over the batch's edges, and the cell."""
        graph, n, features = batch.graph, len(batch.numbers), self.hyperparameters.features
        vectors = batch.edge_vectors(batch.fractional, batch.cell)
        edges = EdgeGeometry.of(vectors, graph.centre, graph.neighbour, self.radial_basis, n)
        x = self.embedding(batch.numbers)
        v = x.new_zeros(n, 3, features)
        for index, layer in enumerate(self.layers):
            x, v = layer(x, v, edges, first=index == 0)
        per_atom = volume(batch.cell).abs() / batch.n_atoms.to(batch.cell.dtype)
        scalar = self.lattice_embedding(self.volume_basis(per_atom ** (1 / 3)))
        lattice = LatticeState(scalar, x.new_zeros(len(scalar), 3, 3, features))
        _, strain = self.atoms_to_lattice(x, v, edges, lattice, batch)
        cell = batch.with_fixed_cells(torch.einsum('scx,sxy->scy', batch.cell, matrix_exponential(strain)))
        carried = batch.edge_vectors(batch.fractional, cell).norm(dim=1)
        change, log_scale = both_kinds(head(x, v, edges) for head in (self.displacement_head, self.relaxed_head))
        every = torch.ones_like(graph.centre, dtype=torch.bool)
        return DistancePrediction(every, (carried.repeat(2) + change).abs(), log_scale, cell)

    def solve(self, prediction: DistancePrediction, batch: CrystalBatch) -> Geometry:
        """Return the crystals whose distances are most likely."""
        with torch.no_grad():
            vectors = batch.edge_vectors(batch.fractional, prediction.cell)
            displacement = most_likely_displacements(prediction, vectors, batch)
            displacement = without_drift(displacement, prediction.cell, batch)
            step = torch.einsum('ax,axc->ac', displacement, inverse(prediction.cell)[batch.structure_index])
        return Geometry(batch.with_fixed_coordinates(batch.fractional + step), prediction.cell)

    def true_distances(self, target: Target, prediction: DistancePrediction, batch: CrystalBatch) -> Tensor:
        """Return what the distances of `prediction` should have been, in A.

        The displacement distances are those in the predicted cell, so that its error is not counted in both kinds.
        """
        centre, neighbour = batch.graph.centre, batch.graph.neighbour
        change = Geometry(target.fractional - batch.fractional, target.cell).positions(batch)
        moved = nearest_image_vectors(change[:, None], target.reduced, batch.structure_index)[:, 0]
        unrelaxed = batch.edge_vectors(batch.fractional, target.cell)
        to_relaxed = unrelaxed + moved[neighbour]
        relaxed = to_relaxed - moved[centre]
        carried = batch.edge_vectors(batch.fractional, prediction.cell).norm(dim=1)
        return torch.cat([carried + to_relaxed.norm(dim=1) - unrelaxed.norm(dim=1), relaxed.norm(dim=1)])


class _DistanceHead(nn.Module):
    """Change of an edge's length and its scale, from its ends' scalars, its length and its ends' vectors along it.

    The change stays below `LARGEST_DISPLACEMENT`, smoothly.
    """

    def __init__(self, p: DeepRelax.Hyperparameters):
        super().__init__()
        features, self.channels = p.features, max(1, p.features // 4)
        self.ends = nn.Linear(features, 2 * features)
        self.length = nn.Linear(p.radial_functions, features, bias=False)
        self.along: nn.Linear | None = None
        if p.vectors_along_edges:
            self.vectors = nn.Linear(features, 2 * self.channels, bias=False)
            self.along = nn.Linear(self.channels, features, bias=False)
        self.output = nn.Sequential(ScaledSiLU(), *perceptron(features, features, 2 if p.local_uncertainty else 1))

    def forward(self, x: Tensor, v: Tensor, edges: EdgeGeometry) -> tuple[Tensor, Tensor | None]:
        """Return changes in A and, if stated, the logarithms of their scales, both ``(E,)``."""
        centre, neighbour = self.ends(x).chunk(2, dim=1)
        ends = centre.index_select(0, edges.centre) + neighbour.index_select(0, edges.neighbour)
        joined = ends + self.length(edges.radial)
        if self.along is not None:
            of_centre, of_neighbour = self.vectors(v).split(self.channels, dim=2)
            vectors = of_centre.index_select(0, edges.centre) + of_neighbour.index_select(0, edges.neighbour)
            joined = joined + self.along((vectors * edges.direction[:, :, None]).sum(dim=1))
        change, *log_scale = self.output(joined).split(1, dim=1)
        return bounded(change, LARGEST_DISPLACEMENT, dim=1)[:, 0], log_scale[0][:, 0] if log_scale else None
