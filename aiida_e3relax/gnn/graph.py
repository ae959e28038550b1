"""Periodic neighbour graphs for a whole batch of crystals, on CPU or GPU.

Whole shells
------------
The papers keep the nearest K neighbours of an atom. Where the K-th and the next neighbour are equally far, that cut
keeps an arbitrary part of a shell and breaks the crystal's symmetry. Here neighbours closer in distance than
`SHELL_TOLERANCE` stay or go together: the list ends at the first gap at or after the K-th neighbour. An atom's own
periodic images are neighbours like any other, so that a supercell has the same graph as its primitive cell.
"""

from __future__ import annotations

import dataclasses
import itertools

import torch
from torch import Tensor

SHELL_TOLERANCE = 1e-3
"""Neighbours whose distances differ by less than this (A) belong to one shell."""

MAX_PAIRS = 200_000
"""Candidate pairs held at a time: bounds the memory of the search, and keeps it within the processor's cache."""


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


def neighbour_graph(
    fractional: Tensor, cell: Tensor, n_atoms: Tensor, cutoff: float, max_neighbours: int | None
) -> Graph:
    """Return the neighbours within `cutoff` of every atom, at least the nearest `max_neighbours`, in whole shells.

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
    """
    wrap = torch.floor(fractional)
    wrapped = fractional - wrap
    heights = 1.0 / torch.linalg.inv(cell).norm(dim=1)
    reach = torch.floor(cutoff / heights + 1.0).long()
    pieces = []
    for start, end in _pieces(n_atoms, reach):
        pieces.append(_pairs_within(wrapped, cell, n_atoms, reach, cutoff, start, end))
    centre, neighbour, offset, distance = (torch.cat(parts) for parts in zip(*pieces, strict=True))
    by_distance = torch.argsort(distance, stable=True)
    order = by_distance[torch.argsort(centre[by_distance], stable=True)]
    centre, neighbour, offset, distance = centre[order], neighbour[order], offset[order], distance[order]
    if max_neighbours is not None:
        keep = _whole_shells(centre, distance, len(fractional), max_neighbours)
        centre, neighbour, offset = centre[keep], neighbour[keep], offset[keep]
    offset = offset + (wrap[centre] - wrap[neighbour]).long()
    return Graph(centre, neighbour, offset)


def rank_among_edges(centre: Tensor, n_atoms_total: int) -> Tensor:
    """Return how many edges of the same centre stand before each edge ``(E,)``, for edges sorted by centre."""
    count = torch.bincount(centre, minlength=n_atoms_total)
    return torch.arange(len(centre), device=centre.device) - (torch.cumsum(count, 0) - count)[centre]


def _pieces(n_atoms: Tensor, reach: Tensor) -> list[tuple[int, int]]:
    """Split the batch into runs of crystals of at most MAX_PAIRS candidate pairs (a larger crystal stands alone)."""
    pairs = (n_atoms**2 * (2 * reach + 1).prod(dim=1)).tolist()
    bounds, held = [0], 0
    for index, count in enumerate(pairs):
        if held and held + count > MAX_PAIRS:
            bounds.append(index)
            held = 0
        held += count
    bounds.append(len(pairs))
    return list(itertools.pairwise(bounds))


def _pairs_within(
    wrapped: Tensor, cell: Tensor, n_atoms: Tensor, reach: Tensor, cutoff: float, start: int, end: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return (centre, neighbour, offset, distance) of all pairs within `cutoff` of the crystals start..end-1."""
    device = wrapped.device
    n, sizes = n_atoms[start:end], 2 * reach[start:end] + 1
    images = sizes.prod(dim=1)
    pairs = n * n * images
    first_atom = (torch.cumsum(n_atoms, 0) - n_atoms)[start:end]
    crystal = torch.repeat_interleave(torch.arange(end - start, device=device), pairs)
    rank = torch.arange(len(crystal), device=device) - (torch.cumsum(pairs, 0) - pairs)[crystal]
    image, pair = rank % images[crystal], rank // images[crystal]
    centre, neighbour = first_atom[crystal] + pair // n[crystal], first_atom[crystal] + pair % n[crystal]
    size = sizes[crystal]
    offset = torch.stack(
        [image // (size[:, 1] * size[:, 2]), image // size[:, 2] % size[:, 1], image % size[:, 2]], dim=1
    )
    offset = offset - reach[start:end][crystal]
    difference = wrapped[neighbour] - wrapped[centre] + offset
    vector = torch.einsum('pc,pcx->px', difference, cell[start:end][crystal])
    distance = vector.norm(dim=1)
    itself = (centre == neighbour) & (offset == 0).all(dim=1)
    keep = (distance < cutoff) & ~itself
    return centre[keep], neighbour[keep], offset[keep], distance[keep]


def _whole_shells(centre: Tensor, distance: Tensor, n_atoms_total: int, max_neighbours: int) -> Tensor:
    """Return the ``(E,)`` mask of edges, sorted by centre and distance, up to the first gap after `max_neighbours`."""
    rank = rank_among_edges(centre, n_atoms_total)
    gap_follows = torch.ones_like(rank, dtype=torch.bool)
    gap_follows[:-1] = (distance[1:] - distance[:-1] > SHELL_TOLERANCE) | (centre[1:] != centre[:-1])
    ends = torch.where(gap_follows & (rank >= max_neighbours - 1), rank, torch.iinfo(rank.dtype).max)
    last = torch.full((n_atoms_total,), torch.iinfo(rank.dtype).max, dtype=rank.dtype, device=rank.device)
    last = last.scatter_reduce(0, centre, ends, 'amin')
    return rank <= last[centre]
