"""What every model of the registry is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn

from aiida_e3relax.gnn.batch import CrystalBatch, Geometry
from aiida_e3relax.gnn.graph import Graph


class RelaxationModel(nn.Module, ABC):
    """A network from unrelaxed crystals to relaxed ones, layer by layer.

    Attributes
    ----------
    Hyperparameters
        The frozen dataclass of the model's sizes, among them `cutoff` (A) and `max_neighbours` of its graph.
    hyperparameters
        The sizes of this model.
    """

    Hyperparameters: ClassVar[Any]
    hyperparameters: Any

    @abstractmethod
    def graph(self, fractional: Tensor, cell: Tensor, n_atoms: Tensor) -> Graph:
        """Return the model's edges: ``fractional`` (A, 3), ``cell`` (S, 3, 3) with rows in A, ``n_atoms`` (S,)."""

    @abstractmethod
    def forward(self, batch: CrystalBatch) -> list[Geometry]:
        """Return the structure after every layer; the last is the prediction."""
