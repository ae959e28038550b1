"""Base of E3Relax and E3Relax-H2 as published: the loop over layers that refine the structure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from aiida_e3relax.gnn.graph.batch import CrystalBatch, Geometry
from aiida_e3relax.gnn.graph.published import nearest_neighbour_graph
from aiida_e3relax.gnn.graph.shells import Graph
from aiida_e3relax.gnn.layers import CellHead, RadialBasis, inverse
from aiida_e3relax.gnn.models.base import RelaxationModel, Transformation
from aiida_e3relax.gnn.models.published.axes import AxisStates
from aiida_e3relax.gnn.models.published.names import accept_authors_names

ELEMENT_ROWS = 118
"""Rows of the published embeddings."""

LATTICE_UPDATES = ('rows', 'published')


@dataclasses.dataclass(frozen=True)
class PublishedHyperparameters:
    """Sizes of the network and of its graph, as the authors choose them.

    Attributes
    ----------
    features, layers, radial_functions
        Sizes.
    radial_cutoff
        Reach of the radial basis in A.
    cutoff, max_neighbours
        Reach of the graph in A, and the neighbours kept of an atom, itself counted (see `nearest_neighbour_graph`).
    lattice_update
        ``rows`` adds the change of lattice vector c to row c of the cell; ``published`` adds it to column c, as the
        authors' code does. Weights of theirs need the latter; it is not equivariant under rotation.
    lattice_nodes
        Whether the lattice vectors are nodes. Without them atoms hear nothing of the lattice, and DeepRelax's head
        predicts the cell, once, from the last layer's scalars: every layer's structure has this cell (E3Relax, Table
        3; E3Relax-H2, Table 6).
    centred_positions
        Whether atoms see the lattice vectors from the mean of their positions (E3Relax-H2, eq. 19), or from the origin,
        which makes the prediction depend on where that lies (E3Relax, eq. 15; E3Relax-H2, section 5.8).
    self_images
        Whether six images of every atom itself are its neighbours (E3Relax, Table 3).
    refinement
        Whether every layer moves atoms and lattice vectors. Without it all layers see the unrelaxed crystal, and what
        the last one says is the only prediction (E3Relax, Table 3).
    """

    features: int = 512
    layers: int = 4
    radial_functions: int = 128
    radial_cutoff: float = 30.0
    cutoff: float = 6.0
    max_neighbours: int = 50
    lattice_update: str = 'rows'
    lattice_nodes: bool = True
    centred_positions: bool = True
    self_images: bool = True
    refinement: bool = True


def geometry_of(positions: Tensor, cell: Tensor, batch: CrystalBatch) -> Geometry:
    """Return the geometry of Cartesian positions ``(A, 3)``, in A, in `cell` ``(S, 3, 3)``; fixed atoms do not move."""
    fractional = torch.einsum('ax,axc->ac', positions, inverse(cell)[batch.structure_index])
    return Geometry(batch.with_fixed_coordinates(fractional), cell)


class PublishedRelaxation(RelaxationModel):
    """Relaxed crystals from unrelaxed ones, layer by layer.

    The geometry of the next layer is that of the updated structure, over the same edges. Atoms move in Cartesian
    coordinates: they do not follow the cell.
    """

    Hyperparameters: ClassVar[type[PublishedHyperparameters]]
    hyperparameters: PublishedHyperparameters
    # Rotation and reflection only by the published lattice update, and at sites where symmetry leaves no direction.
    breaks = frozenset(Transformation) - {Transformation.TRANSLATION, Transformation.PERMUTATION, Transformation.BATCH}

    def __init__(
        self,
        hyperparameters: PublishedHyperparameters,
        layer: Callable[[Any], nn.Module],
        axis_rows: tuple[int, ...],
        names: Mapping[str, str],
    ):
        """Make the parts that do not depend on the kind of layer.

        Parameters
        ----------
        hyperparameters
            Sizes.
        layer
            What makes a layer, from the hyper-parameters.
        axis_rows
            How the initial scalars of the three axes are stored: the rows of each parameter.
        names
            The authors' names, see `accept_authors_names`.

        Raises
        ------
        ValueError
            For a lattice update that is not known.
        """
        super().__init__()
        self.hyperparameters = p = hyperparameters
        if p.lattice_update not in LATTICE_UPDATES:
            raise ValueError(f'unknown lattice_update {p.lattice_update!r}; known: {", ".join(LATTICE_UPDATES)}')
        self.radial_basis = RadialBasis(p.radial_functions, p.radial_cutoff)
        self.embedding = nn.Embedding(ELEMENT_ROWS, p.features)
        if p.lattice_nodes:
            self.axis_embedding = nn.ParameterList(torch.randn(rows, p.features) for rows in axis_rows)
        self.layers = nn.ModuleList(layer(p) for _ in range(p.layers))
        if not p.lattice_nodes:
            self.cell_head = CellHead(p.features)
        self.breaks = PublishedRelaxation.breaks
        if p.lattice_nodes and not p.centred_positions:
            self.breaks |= {Transformation.TRANSLATION}
        accept_authors_names(self, names)

    @property
    def standard_orientation(self) -> bool:
        """Whether the prediction is right only for an input with a along x and b in the xy plane, positive in y."""
        p = self.hyperparameters
        return p.lattice_update == 'published' or not p.lattice_nodes

    def graph(self, fractional: Tensor, cell: Tensor, n_atoms: Tensor) -> Graph:
        """Return the edges that the published models use, of a batch as `neighbour_graph` takes it."""
        p = self.hyperparameters
        return nearest_neighbour_graph(fractional, cell, n_atoms, p.cutoff, p.max_neighbours, p.self_images)

    @classmethod
    def supervised_layers(cls, hyperparameters: PublishedHyperparameters) -> int:
        """Return the number of layers that move atoms and cell."""
        return hyperparameters.layers if hyperparameters.refinement else 1

    def forward(self, batch: CrystalBatch) -> list[Geometry]:
        """Return the structure after every layer; the last is the prediction."""
        p = self.hyperparameters
        cell, positions = batch.cell, Geometry(batch.fractional, batch.cell).positions(batch)
        x = self.embedding(batch.numbers)
        v = x.new_zeros(len(x), 3, p.features)
        axes = self._axes(len(cell)) if p.lattice_nodes else None
        structures = []
        for index, layer in enumerate(self.layers):
            x, v, axes, displacement, changes = layer(x, v, axes, positions, cell, batch, self.radial_basis)
            if not p.refinement and index + 1 < p.layers:
                continue
            positions = positions + displacement
            if changes is not None:
                cell = cell + (changes if p.lattice_update == 'rows' else changes.transpose(1, 2))
                cell = batch.with_fixed_cells(cell)
            if batch.fixed is not None:
                positions = geometry_of(positions, cell, batch).positions(batch)
            structures.append((positions, cell))
        if not p.lattice_nodes:
            cell = batch.with_fixed_cells(self.cell_head(x, batch))
            structures = [(positions, cell) for positions, _ in structures]
        return [geometry_of(positions, cell, batch) for positions, cell in structures]

    def _axes(self, n_structures: int) -> AxisStates:
        """Return the initial features of the lattice vectors."""
        scalar = torch.cat(list(self.axis_embedding)).expand(n_structures, 3, -1)
        return AxisStates(scalar, scalar.new_zeros(n_structures, 3, 3, scalar.shape[2]))
