"""A batch of crystals as tensors, with its neighbour graph: what every model takes and returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.gnn.graph.shells import Graph


@dataclasses.dataclass(frozen=True)
class CrystalBatch:
    """S crystals, A atoms, E edges, on one device.

    Attributes
    ----------
    numbers
        ``(A,)`` atomic numbers.
    fractional
        ``(A, 3)`` fractional coordinates.
    cell
        ``(S, 3, 3)`` lattice vectors as rows, in A.
    n_atoms
        ``(S,)`` atoms of each crystal.
    structure_index
        ``(A,)`` the crystal of each atom.
    graph
        Neighbours of every atom.
    fixed
        ``(A, 3)`` the fractional coordinates that do not move; None where all do.
    fixed_cell
        ``(S,)`` the crystals whose cell does not change; None where all do.
    """

    numbers: Tensor
    fractional: Tensor
    cell: Tensor
    n_atoms: Tensor
    structure_index: Tensor
    graph: Graph
    fixed: Tensor | None = None
    fixed_cell: Tensor | None = None

    def mean_over_atoms(self, values: Tensor) -> Tensor:
        """Return the ``(S, ...)`` mean over each crystal's atoms of `values` ``(A, ...)``."""
        total = values.new_zeros((len(self.n_atoms), *values.shape[1:])).index_add(0, self.structure_index, values)
        return total / self.n_atoms.to(values.dtype).reshape(-1, *[1] * (values.dim() - 1))

    def with_fixed_coordinates(self, fractional: Tensor) -> Tensor:
        """Return new fractional coordinates ``(A, 3)``, but for those that do not move."""
        return fractional if self.fixed is None else torch.where(self.fixed, self.fractional, fractional)

    def with_fixed_cells(self, cell: Tensor) -> Tensor:
        """Return new cells ``(S, 3, 3)``, but for those that do not change."""
        return cell if self.fixed_cell is None else torch.where(self.fixed_cell[:, None, None], self.cell, cell)

    def edge_vectors(self, fractional: Tensor, cell: Tensor) -> Tensor:
        """Return the ``(E, 3)`` vectors from centre to neighbour, in A, for other coordinates over the same edges."""
        graph = self.graph
        difference = fractional[graph.neighbour] - fractional[graph.centre] + graph.offset.to(fractional.dtype)
        return (difference[:, None] @ cell[self.structure_index[graph.centre]])[:, 0]


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Coordinates of a batch after one layer.

    Attributes
    ----------
    fractional
        ``(A, 3)``.
    cell
        ``(S, 3, 3)`` with rows in A.
    uncertainty
        ``(S,)`` expected error of the lengths of the crystal's bonds, in A, of a model that states it; else None.
    features
        What the model made of every site on the way to its prediction, invariant scalars ``(A, ...)`` that tell sites
        apart; None of earlier layers, and of models that have none to show.
    """

    fractional: Tensor
    cell: Tensor
    uncertainty: Tensor | None = None
    features: tuple[Tensor, ...] | None = None

    def positions(self, batch: CrystalBatch) -> Tensor:
        """Return the ``(A, 3)`` Cartesian positions in A."""
        return torch.einsum('ac,acx->ax', self.fractional, self.cell[batch.structure_index])

    def fixed_as(self, batch: CrystalBatch) -> Geometry:
        """Return the geometry with what is fixed in `batch` as it is there."""
        if batch.fixed is None and batch.fixed_cell is None:
            return self
        fractional, cell = batch.with_fixed_coordinates(self.fractional), batch.with_fixed_cells(self.cell)
        return dataclasses.replace(self, fractional=fractional, cell=cell)


def make_batch(
    crystals: Crystals,
    graph: Callable[[Tensor, Tensor, Tensor], Graph],
    device: torch.device | str = 'cpu',
    dtype: torch.dtype = torch.float32,
) -> CrystalBatch:
    """Return `crystals` with their neighbour graph as a batch on `device`.

    `graph` makes the edges from fractional coordinates, cells and numbers of atoms: the method of that name of a model.
    The graph is searched in float64, so that symmetry-equivalent atoms get equivalent neighbours whatever `dtype` is.
    """
    n_atoms = torch.as_tensor(crystals.n_atoms, device=device)
    fractional = torch.as_tensor(crystals.fractional(), device=device)
    cell = torch.as_tensor(np.ascontiguousarray(crystals.cell), device=device)
    return CrystalBatch(
        numbers=torch.as_tensor(crystals.numbers, device=device),
        fractional=fractional.to(dtype),
        cell=cell.to(dtype),
        n_atoms=n_atoms,
        structure_index=torch.repeat_interleave(torch.arange(len(crystals), device=device), n_atoms),
        graph=graph(fractional, cell, n_atoms),
    )
