"""Base of E3Relax and E3Relax-H2 as published: the loop over layers that refine the structure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from aiida_e3relax.gnn.graph.batch import CrystalBatch, Geometry
from aiida_e3relax.gnn.graph.published import nearest_neighbour_graph
from aiida_e3relax.gnn.graph.shells import Graph
from aiida_e3relax.gnn.layers import RadialBasis, inverse
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
    """

    features: int = 512
    layers: int = 4
    radial_functions: int = 128
    radial_cutoff: float = 30.0
    cutoff: float = 6.0
    max_neighbours: int = 50
    lattice_update: str = 'rows'


class PublishedRelaxation(RelaxationModel):
    """Relaxed crystals from unrelaxed ones, layer by layer.

    The geometry of the next layer is that of the updated structure, over the same edges. Atoms move in Cartesian
    coordinates: they do not follow the cell.
    """

    Hyperparameters = PublishedHyperparameters
    # Rotation and reflection only by the published lattice update, and at sites where symmetry leaves no direction.
    breaks = frozenset(Transformation) - {Transformation.TRANSLATION, Transformation.PERMUTATION, Transformation.BATCH}

    def __init__(
        self,
        hyperparameters: PublishedHyperparameters,
        layer: type[nn.Module],
        axis_rows: tuple[int, ...],
        names: Mapping[str, str],
    ):
        """Make the parts that do not depend on the kind of layer.

        Parameters
        ----------
        hyperparameters
            Sizes.
        layer
            The class of the layers.
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
        self.axis_embedding = nn.ParameterList(torch.randn(rows, p.features) for rows in axis_rows)
        self.layers = nn.ModuleList(layer(p.features, p.radial_functions) for _ in range(p.layers))
        accept_authors_names(self, names)

    @property
    def standard_orientation(self) -> bool:
        """Whether the prediction is right only for an input with a along x and b in the xy plane, positive in y."""
        return self.hyperparameters.lattice_update == 'published'

    def graph(self, fractional: Tensor, cell: Tensor, n_atoms: Tensor) -> Graph:
        """Return the edges that the published models use, of a batch as `neighbour_graph` takes it."""
        p = self.hyperparameters
        return nearest_neighbour_graph(fractional, cell, n_atoms, p.cutoff, p.max_neighbours)

    @classmethod
    def supervised_layers(cls, hyperparameters: PublishedHyperparameters) -> int:
        """Return the number of layers."""
        return hyperparameters.layers

    def forward(self, batch: CrystalBatch) -> list[Geometry]:
        """Return the structure after every layer; the last is the prediction."""
        cell, positions = batch.cell, Geometry(batch.fractional, batch.cell).positions(batch)
        x = self.embedding(batch.numbers)
        n_structures, features = len(cell), x.shape[1]
        v = x.new_zeros(len(x), 3, features)
        scalar = torch.cat(list(self.axis_embedding)).expand(n_structures, 3, features)
        axes = AxisStates(scalar, x.new_zeros(n_structures, 3, 3, features))
        geometries = []
        for layer in self.layers:
            x, v, axes, displacement, changes = layer(x, v, axes, positions, cell, batch, self.radial_basis)
            positions = positions + displacement
            cell = cell + (changes if self.hyperparameters.lattice_update == 'rows' else changes.transpose(1, 2))
            fractional = torch.einsum('ax,axc->ac', positions, inverse(cell)[batch.structure_index])
            geometries.append(Geometry(fractional, cell))
        return geometries
