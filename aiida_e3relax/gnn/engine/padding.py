"""Padding of batches with dummy crystals, so that batches of many sizes have few shapes."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torch.nn.functional import pad

from aiida_e3relax.gnn.graph.batch import CrystalBatch
from aiida_e3relax.gnn.graph.shells import Graph

EDGES_PER_ATOM = 64
"""Most edges of an atom that is added: a kernel takes as long as its busiest atom."""

CELL_LENGTH = 4.0
"""Edge of the cubic cell of a crystal that is added, in A."""


@dataclasses.dataclass(frozen=True)
class BatchShape:
    """Numbers of crystals, atoms and edges, and whether atoms and cells are fixed in some of them."""

    crystals: int
    atoms: int
    edges: int
    fixed: bool = False
    fixed_cell: bool = False

    @staticmethod
    def of(batch: CrystalBatch) -> BatchShape:
        """Return the shape of `batch`."""
        return BatchShape(
            len(batch.n_atoms),
            len(batch.numbers),
            len(batch.graph.centre),
            batch.fixed is not None,
            batch.fixed_cell is not None,
        )

    def padded(self) -> BatchShape:
        """Return the next shape to pad to: at least one crystal more."""
        edges = _next_size(self.edges)
        crystals = _next_size(self.crystals + 1)
        more_atoms = max(crystals - self.crystals, -(-(edges - self.edges) // EDGES_PER_ATOM))
        return dataclasses.replace(self, crystals=crystals, atoms=_next_size(self.atoms + more_atoms), edges=edges)


def _next_size(count: int) -> int:
    """Return the next of four sizes an octave (4, 5, 6, 7, 8, 10, 12, ...): a quarter more than `count` at most."""
    step = 1 << max(0, count.bit_length() - 3)
    return -(-count // step) * step


def padded_batch(batch: CrystalBatch, shape: BatchShape) -> CrystalBatch:
    """Return `batch` with crystals added at its end until it has `shape`, from `BatchShape.padded`.

    Crystals know nothing of one another, so the prediction for those of `batch` stays what it is. Each of those added
    has one atom, but for the last, which has the rest; their edges lead from an atom to its own image. Nothing here
    waits for the device.
    """
    own = BatchShape.of(batch)
    crystals, atoms, edges = (shape.crystals - own.crystals, shape.atoms - own.atoms, shape.edges - own.edges)
    n_atoms = pad(batch.n_atoms, (0, crystals), value=1)
    n_atoms[-1].fill_(atoms - crystals + 1)
    cell = CELL_LENGTH * torch.eye(3, dtype=batch.cell.dtype, device=batch.cell.device)
    of_crystal = (own.crystals + _counted(atoms, batch.numbers)).clamp(max=shape.crystals - 1)
    of_atom = own.atoms + _counted(edges, batch.numbers) * atoms // max(1, edges)
    offset = pad(batch.graph.offset, (0, 0, 0, edges))
    offset[own.edges :, 0].fill_(1)
    return CrystalBatch(
        numbers=pad(batch.numbers, (0, atoms), value=1),
        fractional=pad(batch.fractional, (0, 0, 0, atoms)),
        cell=torch.cat([batch.cell, cell.expand(crystals, 3, 3)]),
        n_atoms=n_atoms,
        structure_index=torch.cat([batch.structure_index, of_crystal]),
        graph=Graph(torch.cat([batch.graph.centre, of_atom]), torch.cat([batch.graph.neighbour, of_atom]), offset),
        fixed=None if batch.fixed is None else pad(batch.fixed, (0, 0, 0, atoms)),
        fixed_cell=None if batch.fixed_cell is None else pad(batch.fixed_cell, (0, crystals)),
    )


def _counted(count: int, like: Tensor) -> Tensor:
    """Return 0, 1, ... ``(count,)`` on the device of `like`."""
    return torch.arange(count, device=like.device)
