"""Base of the symmetric forms of E3Relax and E3Relax-H2: the loop over layers that refine the structure."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod

from torch import Tensor, nn

from aiida_e3relax.crystals.structures import MAX_ATOMIC_NUMBER
from aiida_e3relax.gnn.graph.batch import CrystalBatch, Geometry
from aiida_e3relax.gnn.graph.shells import Graph
from aiida_e3relax.gnn.layers import (
    AtomsToLattice,
    CellHead,
    EdgeGeometry,
    HighDegreeMessagePassing,
    LatticeState,
    LatticeToAtoms,
    RadialBasis,
    SelfInteraction,
    displaced,
    limited,
    matrix_exponential,
    perceptron,
    volume,
)
from aiida_e3relax.gnn.models.base import RelaxationModel, Transformation
from aiida_e3relax.gnn.models.raw_cell import RawCellRelaxation, bounded_cell

VOLUME_SCALE = 6.0
"""Cube root (A) of the largest volume per atom that the lattice node's radial basis resolves."""


@dataclasses.dataclass(frozen=True)
class SymmetricHyperparameters:
    """Sizes of the network and of its graph.

    Attributes
    ----------
    features, layers, radial_functions, strain_channels
        Sizes.
    cutoff, max_neighbours
        Reach of the graph in A, and the neighbours of an atom, counted before shells are completed.
    self_images
        Whether an atom's own periodic images are neighbours like any other. Without them a supercell, in which they
        are other atoms, gets another prediction.
    """

    features: int = 128
    layers: int = 3
    radial_functions: int = 32
    cutoff: float = 6.0
    max_neighbours: int = 24
    strain_channels: int = 32
    self_images: bool = True


class SymmetricModel(RelaxationModel):
    """Base of the symmetric forms: complete neighbour shells, with or without an atom's own images."""

    hyperparameters: SymmetricHyperparameters

    def __init__(self, hyperparameters: SymmetricHyperparameters):
        super().__init__()
        self.hyperparameters = hyperparameters
        if not hyperparameters.self_images:
            self.breaks |= {Transformation.SUPERCELL}

    def graph(self, fractional: Tensor, cell: Tensor, n_atoms: Tensor) -> Graph:
        """Return the model's edges, of a batch as `neighbour_graph` takes it."""
        graph = super().graph(fractional, cell, n_atoms)
        return graph if self.hyperparameters.self_images else graph.without_self_images()


@dataclasses.dataclass(frozen=True)
class RefinementHyperparameters(SymmetricHyperparameters):
    """Those of `SymmetricHyperparameters`, and what the papers' ablations leave out.

    Attributes
    ----------
    lattice_nodes
        Whether the lattice is a node. Without it atoms hear nothing of the lattice, and DeepRelax's head predicts the
        cell, once, from the last layer's scalars: every layer's structure has this cell (E3Relax, Table 3; E3Relax-H2,
        Table 6). What that breaks, it breaks in the cell alone, as in `RawCellRelaxation`.
    refinement
        Whether every layer moves atoms and cell. Without it all layers see the unrelaxed crystal, and what the last
        one says is the only prediction (E3Relax, Table 3).
    """

    lattice_nodes: bool = True
    refinement: bool = True


class SymmetricRelaxation(SymmetricModel):
    """Relaxed crystals from unrelaxed ones, layer by layer.

    Each layer: lattice to atoms, message passing, self-interaction, atoms to lattice, and an update of the structure;
    the geometry of the next layer is that of the updated structure, over the same edges. The cell is
    ``L_0 exp(sum of strains)``: a symmetric strain on the rows, so the prediction never rotates the crystal and its
    volume stays positive. Atoms follow the cell at fixed fractional coordinates and move by a displacement whose mean
    over the crystal is zero; that makes the result the same for every way of wrapping atoms into the cell.
    """

    Hyperparameters = RefinementHyperparameters
    hyperparameters: RefinementHyperparameters

    def __init__(self, hyperparameters: RefinementHyperparameters):
        super().__init__(hyperparameters)
        p = hyperparameters
        self.radial_basis = RadialBasis(p.radial_functions, p.cutoff)
        self.embedding = nn.Embedding(MAX_ATOMIC_NUMBER + 1, p.features)
        if p.lattice_nodes:
            self.volume_basis = RadialBasis(p.radial_functions, VOLUME_SCALE)
            self.lattice_embedding = perceptron(p.radial_functions, p.features, p.features)
        self.layers = nn.ModuleList(self.layer() for _ in range(p.layers))
        if not p.lattice_nodes:
            self.cell_head = CellHead(p.features)
            self.breaks |= RawCellRelaxation.breaks

    @property
    def standard_orientation(self) -> bool:
        """Whether the prediction is right only for an input with a along x and b in the xy plane, positive in y."""
        return not self.hyperparameters.lattice_nodes

    @property
    def site_features(self) -> int:
        """The scalars after every layer."""
        return self.hyperparameters.layers * self.hyperparameters.features

    @abstractmethod
    def layer(self) -> SymmetricLayer:
        """Return a new layer."""

    @classmethod
    def supervised_layers(cls, hyperparameters: RefinementHyperparameters) -> int:
        """Return the number of layers that move atoms and cell."""
        return hyperparameters.layers if hyperparameters.refinement else 1

    def forward(self, batch: CrystalBatch) -> list[Geometry]:
        """Return the structure after every layer; the last is the prediction."""
        p, fractional, n = self.hyperparameters, batch.fractional, len(batch.numbers)
        x = self.embedding(batch.numbers)
        v = x.new_zeros(n, 3, p.features)
        strain = x.new_zeros(len(batch.n_atoms), 3, 3)
        lattice = self._lattice(batch) if p.lattice_nodes else None
        cell = batch.cell
        geometries, features = [], []
        for index, layer in enumerate(self.layers):
            vectors = batch.edge_vectors(fractional, cell)
            edges = EdgeGeometry.of(vectors, batch.graph.centre, batch.graph.neighbour, self.radial_basis, n)
            x, v, lattice, displacement, increment = layer(x, v, lattice, edges, batch, first=index == 0)
            features.append(x)
            if not p.refinement and index + 1 < p.layers:
                continue
            if increment is not None:
                strain = strain + increment
                cell = batch.with_fixed_cells(batch.cell @ matrix_exponential(strain))
            fractional = displaced(fractional, displacement, cell, batch)
            geometries.append(Geometry(fractional, cell))
        if not p.lattice_nodes:
            cell = bounded_cell(self.cell_head, x, batch)
            geometries = [Geometry(geometry.fractional, cell) for geometry in geometries]
        geometries[-1] = dataclasses.replace(geometries[-1], features=tuple(features))
        return geometries

    def _lattice(self, batch: CrystalBatch) -> LatticeState:
        """Return the initial features of the lattice node."""
        scalar = self._lattice_scalar(batch)
        return LatticeState(scalar, scalar.new_zeros(len(scalar), 3, 3, scalar.shape[1]))

    def _lattice_scalar(self, batch: CrystalBatch) -> Tensor:
        """Return the initial lattice scalars ``(S, F)``, from the volume per atom."""
        per_atom = volume(batch.cell).abs() / batch.n_atoms.to(batch.cell.dtype)
        return self.lattice_embedding(self.volume_basis(per_atom ** (1 / 3)))


class SymmetricLayer(nn.Module):
    """One round of exchange between lattice and atoms, with `l_max` of `HighDegreeMessagePassing`."""

    def __init__(self, p: RefinementHyperparameters, l_max: int):
        super().__init__()
        self.lattice_to_atoms = LatticeToAtoms(p.features) if p.lattice_nodes else None
        self.message_passing = HighDegreeMessagePassing(p.features, p.radial_functions, l_max)
        self.self_interaction = SelfInteraction(p.features)
        self.atoms_to_lattice = (
            AtomsToLattice(p.features, p.radial_functions, p.strain_channels) if p.lattice_nodes else None
        )
        self.displacement = nn.Linear(p.features, 1, bias=False)

    def forward(
        self, x: Tensor, v: Tensor, lattice: LatticeState | None, edges: EdgeGeometry, batch: CrystalBatch, first: bool
    ) -> tuple[Tensor, Tensor, LatticeState | None, Tensor, Tensor | None]:
        """Return new features, and this layer's displacement ``(A, 3)`` in A and strain ``(S, 3, 3)``.

        Where the lattice is no node, `lattice` and the strain are None.
        """
        if self.lattice_to_atoms is not None:
            x, v = self.lattice_to_atoms(x, v, lattice, batch.structure_index)
        dx, dv = self.message_passing(x, v, edges, first)
        x, v = (x + dx) * 2**-0.5, v + dv
        dx, dv = self.self_interaction(x, v)
        x, v = limited((x + dx) * 2**-0.5), limited(v + dv)
        strain = None
        if self.atoms_to_lattice is not None:
            lattice, strain = self.atoms_to_lattice(x, v, edges, lattice, batch)
            lattice = LatticeState(limited(lattice.scalar), limited(lattice.tensor))
        return x, v, lattice, self.displacements(x, v), strain

    def displacements(self, x: Tensor, v: Tensor) -> Tensor:
        """Return displacements ``(A, 3)`` in A from scalars ``(A, F)`` and vectors ``(A, 3, F)``.

        Here a linear map of the vectors (E3Relax-H2, eq. 33).
        """
        return self.displacement(v)[..., 0]
