"""Base of PaiNN and EGNN as the papers compare with them, without what ours adds for crystals.

What is known: E3Relax (section 'Baselines', appendix C) and E3Relax-H2 (section 5.2) say that the baselines are the
original authors' code with its default sizes, that PaiNN's force branch predicts displacements, that EGNN moves
coordinates layer by layer, and that DeepRelax's head predicts the cell: from pooled features of the atoms and the
lattice vectors. DeepRelax (section 4.8) names the code of both. What is not: the graph, which features are pooled and
how, and everything of the baselines' code itself, which is not published. Taken here are the graph of E3Relax and
E3Relax-H2 (`nearest_neighbour_graph`), the last scalars of the atoms, and the head of DeepRelax's published code
(`CellHead`, a sum over atoms).
"""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn

from aiida_e3relax.crystals.structures import MAX_ATOMIC_NUMBER
from aiida_e3relax.gnn.graph.batch import CrystalBatch, Geometry
from aiida_e3relax.gnn.graph.published import nearest_neighbour_graph
from aiida_e3relax.gnn.graph.shells import Graph
from aiida_e3relax.gnn.layers import CellHead
from aiida_e3relax.gnn.models.base import RelaxationModel, Transformation
from aiida_e3relax.gnn.models.published.relaxation import geometry_of


class PublishedBaseline(RelaxationModel):
    """Relaxed crystals in one step: atoms move in Cartesian coordinates, and the cell apart from them.

    Nothing bounds the change of either.
    """

    breaks = frozenset(Transformation) - {Transformation.TRANSLATION, Transformation.PERMUTATION, Transformation.BATCH}

    def __init__(self, features: int):
        super().__init__()
        self.embedding = nn.Embedding(MAX_ATOMIC_NUMBER + 1, features)
        self.cell_head = CellHead(features)

    @property
    def standard_orientation(self) -> bool:
        """Whether the prediction is right only for an input with a along x and b in the xy plane, positive in y."""
        return True

    def graph(self, fractional: Tensor, cell: Tensor, n_atoms: Tensor) -> Graph:
        """Return the edges of E3Relax and E3Relax-H2, of a batch as `neighbour_graph` takes it."""
        return nearest_neighbour_graph(fractional, cell, n_atoms, self.cutoff, self.max_neighbours)

    @abstractmethod
    def relaxed_atoms(self, x: Tensor, positions: Tensor, batch: CrystalBatch) -> tuple[Tensor, Tensor]:
        """Return the atoms' positions ``(A, 3)`` in A and scalars ``(A, F)``, from their first ones."""

    def forward(self, batch: CrystalBatch) -> list[Geometry]:
        """Return the prediction."""
        positions = Geometry(batch.fractional, batch.cell).positions(batch)
        positions, x = self.relaxed_atoms(self.embedding(batch.numbers), positions, batch)
        return [geometry_of(positions, batch.with_fixed_cells(self.cell_head(x, batch)), batch)]
