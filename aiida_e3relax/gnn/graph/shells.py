"""Periodic neighbour graphs for a whole batch of crystals, on CPU or GPU.

Complete neighbour shells
-------------------------
The papers keep the nearest K neighbours of an atom. Where the K-th and the next neighbour are equally far, that cut
keeps an arbitrary part of a shell and breaks the crystal's symmetry. Here neighbours closer in distance than
`SHELL_TOLERANCE` stay or go together: the list ends at the first gap at or after the K-th neighbour. An atom's own
periodic images are neighbours like any other, so that a supercell has the same graph as its primitive cell.

Reduced cells
-------------
Neighbours are searched in the reduced cell of each lattice, where few images are in reach, and given as images of the
cell that was given.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import torch
from torch import Tensor

from aiida_e3relax.crystals.cells import inverse_of, reduction
from aiida_e3relax.gnn.graph import pair_search

SHELL_TOLERANCE = 1e-3
"""Neighbours whose distances differ by less than this (A) belong to one shell."""

PIECE_ATOMS = {'cpu': 1 << 13, 'cuda': 1 << 17}
"""Atoms whose neighbours are sorted at a time, in a table as wide as the densest of them has pairs within reach."""

CUTOFF_TOLERANCE = 1e-6
"""Neighbours within this (A) of the cutoff are beyond it: rounding never splits a shell that lies exactly there."""


@dataclasses.dataclass(frozen=True)
class Graph:
    """Directed edges j -> i of a batch, sorted by centre i.

    Attributes
    ----------
    centre, neighbour
        ``(E,)`` atom indices i and j.
    offset
        ``(E, 3)`` integer cell of the image of j: the edge vector is ``r_j + offset @ cell - r_i``.
    """

    centre: Tensor
    neighbour: Tensor
    offset: Tensor

    def to(self, device: torch.device) -> Graph:
        """Return the graph on `device`."""
        return Graph(self.centre.to(device), self.neighbour.to(device), self.offset.to(device))

    def select(self, edges: Tensor) -> Graph:
        """Return the edges that a mask or indices name."""
        return Graph(self.centre[edges], self.neighbour[edges], self.offset[edges])

    def without_self_images(self) -> Graph:
        """Return the graph without the edges from an atom to its own images."""
        return self.select(self.centre != self.neighbour)


def neighbour_graph(
    fractional: Tensor, cell: Tensor, n_atoms: Tensor, cutoff: float, max_neighbours: int | None
) -> Graph:
    """Return the neighbours within `cutoff` of every atom, at least the nearest `max_neighbours`, in complete shells.

    Parameters
    ----------
    fractional
        ``(A, 3)`` fractional coordinates, wrapped or not.
    cell
        ``(S, 3, 3)`` lattice vectors as rows, in A; periodic in all three directions.
    n_atoms
        ``(S,)`` atoms of each crystal.
    cutoff
        Largest distance in A.
    max_neighbours
        Neighbours after which the next gap between shells ends the list; None keeps all.

    Raises
    ------
    ValueError
        Where a search would not end in reasonable time or memory: see `pair_search.find_excess`.
    """
    lattice = _Lattice.of(cell, n_atoms)
    fractional, cell = lattice.reduced(fractional, cell)
    wrap = torch.floor(fractional)
    reach = cutoff - CUTOFF_TOLERANCE
    pair_search.check_search(cell, n_atoms, reach)
    pieces = _pieces(n_atoms, len(fractional))
    parts = [
        _complete_shells(fractional[atoms] - wrap[atoms], cell[own], n_atoms[own], reach, max_neighbours)
        for own, atoms in pieces
    ]
    centre, neighbour = (
        torch.cat([getattr(part, end) + atoms.start for part, (_, atoms) in zip(parts, pieces, strict=True)])
        for end in ('centre', 'neighbour')
    )
    offset = torch.cat([part.offset for part in parts])
    return Graph(centre, neighbour, lattice.given(centre, offset + (wrap[centre] - wrap[neighbour]).long()))


def _pieces(n_atoms: Tensor, n_atoms_total: int) -> list[tuple[slice, slice]]:
    """Return the crystals and atoms of runs of crystals with about `PIECE_ATOMS` atoms each."""
    most = PIECE_ATOMS[n_atoms.device.type]
    if n_atoms_total <= most:
        return [(slice(0, len(n_atoms)), slice(0, n_atoms_total))]
    last = torch.cumsum(n_atoms, 0).cpu()
    run = torch.div(last - n_atoms.cpu(), most, rounding_mode='floor')
    bounds = [0, *(torch.nonzero(run.diff())[:, 0] + 1).tolist(), len(last)]
    return [
        (slice(start, end), slice(int(last[start - 1]) if start else 0, int(last[end - 1])))
        for start, end in itertools.pairwise(bounds)
    ]


def _complete_shells(wrapped: Tensor, cell: Tensor, n_atoms: Tensor, reach: float, max_neighbours: int | None) -> Graph:
    """Return the neighbours of one piece of the batch, as `search_pairs` takes it, up to the end of a shell."""
    centre, neighbour, offset, distance = pair_search.search_pairs(wrapped, cell, n_atoms, reach)
    if not len(centre):
        return Graph(centre, neighbour, offset)
    count = torch.bincount(centre, minlength=len(wrapped))
    first = torch.cumsum(count, 0) - count
    rank = torch.arange(len(centre), device=centre.device) - first[centre]
    table = distance.new_full((len(wrapped), int(count.max())), torch.inf)
    table[centre, rank] = distance
    table, order = table.sort(dim=1, stable=True)
    keep = torch.isfinite(table) if max_neighbours is None else _in_complete_shells(table, max_neighbours)
    chosen = (order + first[:, None])[keep]
    return Graph(centre[chosen], neighbour[chosen], offset[chosen])


@dataclasses.dataclass(frozen=True)
class _Lattice:
    """How the reduced cells of a batch come from the given ones.

    Attributes
    ----------
    transforms
        ``(S, 3, 3)`` integers: the reduced lattice vectors, rows, in terms of the given ones; None where all are equal.
    inverse
        ``(S, 3, 3)`` the inverse.
    structure_index
        ``(A,)`` the crystal of each atom.
    """

    transforms: Tensor | None = None
    inverse: Tensor | None = None
    structure_index: Tensor | None = None

    @classmethod
    def of(cls, cell: Tensor, n_atoms: Tensor) -> _Lattice:
        """Return the lattices of cells ``(S, 3, 3)`` with `n_atoms` ``(S,)`` atoms."""
        transforms = reduction(cell.cpu().numpy())
        if (transforms == np.eye(3, dtype=np.int64)).all():
            return cls()
        index = torch.repeat_interleave(torch.arange(len(n_atoms), device=cell.device), n_atoms)
        inverse = torch.as_tensor(inverse_of(transforms), device=cell.device)
        return cls(torch.as_tensor(transforms, device=cell.device), inverse, index)

    def reduced(self, fractional: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Return fractional coordinates ``(A, 3)`` and cells ``(S, 3, 3)`` in terms of the reduced lattice vectors."""
        if self.transforms is None or self.inverse is None or self.structure_index is None:
            return fractional, cell
        inside = torch.einsum('ac,acd->ad', fractional, self.inverse.to(fractional)[self.structure_index])
        return inside, self.transforms.to(cell) @ cell

    def given(self, centre: Tensor, offset: Tensor) -> Tensor:
        """Return `offset` ``(E, 3)`` of the reduced cells, of edges from atoms `centre`, in the given cells."""
        if self.transforms is None or self.structure_index is None:
            return offset
        return (offset[:, :, None] * self.transforms[self.structure_index[centre]]).sum(dim=1)


def rank_among_edges(centre: Tensor, n_atoms_total: int) -> Tensor:
    """Return how many edges of the same centre stand before each edge ``(E,)``, for edges sorted by centre."""
    count = torch.bincount(centre, minlength=n_atoms_total)
    return torch.arange(len(centre), device=centre.device) - (torch.cumsum(count, 0) - count)[centre]


def _in_complete_shells(distance: Tensor, max_neighbours: int) -> Tensor:
    """Return the mask ``(A, D)`` of neighbours up to the first gap at or after the one numbered `max_neighbours`.

    `distance` ``(A, D)`` holds the sorted distances of every atom's neighbours, infinite behind the last.
    """
    gap = distance[:, max_neighbours:] - distance[:, max_neighbours - 1 : -1] > SHELL_TOLERANCE
    keep = torch.isfinite(distance)
    keep[:, max_neighbours:] &= torch.cumsum(gap, dim=1) == 0
    return keep
