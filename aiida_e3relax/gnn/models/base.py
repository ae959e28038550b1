"""The base class of every model."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor, nn

from aiida_e3relax.gnn.graph.batch import CrystalBatch, Geometry
from aiida_e3relax.gnn.graph.shells import Graph, neighbour_graph
from aiida_e3relax.gnn.models.losses import LossSettings, Target, layerwise_loss
from aiida_e3relax.gnn.models.uncertainty import BondLengths


class Transformation(enum.StrEnum):
    """A transformation of the input that leaves the crystal the same, so that the prediction must follow it exactly.

    `gnn.models.equivariance.deviations` measures how well it does; the values are names for tables.
    """

    ROTATION = 'rotation'
    REFLECTION = 'reflection'
    TRANSLATION = 'translation'
    PERMUTATION = 'permutation of atoms'
    BATCH = 'batch make-up'
    LATTICE_VECTOR = 'one atom moved by a lattice vector'
    WRAPPING = 'shift and wrap'
    RELABELLING = 'a, b, c to b, c, a'
    REVERSAL = 'a, b to -a, -b'
    OTHER_CELL = 'b to a + b'
    SUPERCELL = '2x1x1 supercell'
    SITE_SYMMETRY = 'symmetry operations, sites'
    CELL_SYMMETRY = 'symmetry operations, cell'


class RelaxationModel(nn.Module, ABC):
    """A network from unrelaxed crystals to relaxed ones, layer by layer.

    Attributes
    ----------
    Hyperparameters
        The frozen dataclass of the model's sizes.
    breaks
        The transformations that the prediction does not follow, although physics says it must.
    capturable
        Whether a forward pass can be recorded as a CUDA graph: nothing in it waits for the device.
    hyperparameters
        The sizes of this model.
    """

    Hyperparameters: ClassVar[Any]
    breaks: frozenset[Transformation] = frozenset()
    capturable: bool = True
    hyperparameters: Any

    @property
    def cutoff(self) -> float:
        """Reach of the model's graph, in A."""
        return self.hyperparameters.cutoff

    @property
    def max_neighbours(self) -> int:
        """Neighbours of an atom in the model's graph, about."""
        return self.hyperparameters.max_neighbours

    @property
    def site_features(self) -> int:
        """How many numbers of a site `Geometry.features` has, in the last geometry; 0 where it has none."""
        return 0

    @property
    def standard_orientation(self) -> bool:
        """Whether the prediction is right only for an input with a along x and b in the xy plane, positive in y."""
        return False

    def graph(self, fractional: Tensor, cell: Tensor, n_atoms: Tensor) -> Graph:
        """Return the model's edges: ``fractional`` (A, 3), ``cell`` (S, 3, 3) with rows in A, ``n_atoms`` (S,).

        Unless a model has its own graph, the nearest neighbours of every atom, in complete shells.
        """
        return neighbour_graph(fractional, cell, n_atoms, self.cutoff, self.max_neighbours)

    def __call__(self, batch: CrystalBatch) -> list[Geometry]:
        """Return what `forward` returns, with what is fixed in `batch` as it is there, whatever the network."""
        return [geometry.fixed_as(batch) for geometry in super().__call__(batch)]

    @abstractmethod
    def forward(self, batch: CrystalBatch) -> list[Geometry]:
        """Return the structure after every layer; the last is the prediction."""

    @property
    def states_bonds(self) -> bool:
        """Whether the model states the length of every bond with an uncertainty: `with_bonds`."""
        return False

    def with_bonds(self, batch: CrystalBatch, find_bonds: Callable[[], Graph]) -> tuple[list[Geometry], BondLengths]:
        """Return what `forward` returns, and the lengths of bonds; for prediction, of a model that `states_bonds`.

        The bonds are those of `find_bonds`, or the edges of a model that predicts the lengths of these.
        """
        raise NotImplementedError(f'{type(self).__name__} states no bonds')

    @classmethod
    def supervised_layers(cls, hyperparameters: Any) -> int:
        """Return how many structures `forward` gives to the loss: one a layer, or the prediction alone.

        0 says that the model has a loss of its own, which is not one of layers.
        """
        return 1

    def loss(self, batch: CrystalBatch, target: Target, settings: LossSettings) -> tuple[Tensor, Tensor]:
        """Return what training minimises per structure ``(S,)``, and the prediction's errors ``(S, 2)`` in A.

        The errors are those of `structure_losses` with the coordinates' errors of `settings`, without gradient. Unless
        a model has its own, the loss is `layerwise_loss`.

        Parameters
        ----------
        batch
            The unrelaxed crystals.
        target
            The relaxed ones.
        settings
            Which errors count, and how much.
        """
        return layerwise_loss(self(batch), target, batch, settings)
