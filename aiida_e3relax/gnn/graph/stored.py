"""Neighbour graphs of a whole data set, in a few bytes an edge, from which those of batches are cut."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from aiida_e3relax.gnn.graph.shells import Graph, rank_among_edges


class StoredGraph:
    """The graphs of S crystals, whose edges know their neighbours by their place in the crystal.

    An edge takes 5 bytes where no crystal has more than 32,767 atoms and no image is more than 127 cells away: the
    centre follows from the number of edges of every atom. Models get the numbers they know, in 40 bytes.

    Attributes
    ----------
    n_edges
        ``(S,)`` edges of each crystal.
    """

    def __init__(self, parts: Iterable[tuple[Graph, Tensor]]):
        """Take the graphs of the crystals piece by piece, each with its numbers of atoms ``(s,)``.

        Raises
        ------
        ValueError
            For edges that are not sorted by centre.
        """
        packed = [_packed(graph, n_atoms) for graph, n_atoms in parts]
        self._n_atoms, self.n_edges, self._edges_of_atom, self._neighbour, self._offset = (
            torch.cat(arrays) for arrays in zip(*packed, strict=True)
        )
        self._first_atom = torch.cumsum(self._n_atoms, 0) - self._n_atoms
        self._first_edge = torch.cumsum(self.n_edges, 0) - self.n_edges

    @property
    def bytes_of_edge(self) -> int:
        """Memory that an edge takes."""
        return self._neighbour.element_size() + 3 * self._offset.element_size()

    def select(self, chosen: Tensor) -> Graph:
        """Return the graph of a batch of the crystals at `chosen` ``(B,)``."""
        n_atoms = self._n_atoms[chosen]
        first_atom = torch.cumsum(n_atoms, 0) - n_atoms
        atoms, _ = ranges(self._first_atom[chosen], n_atoms)
        edges, crystal = ranges(self._first_edge[chosen], self.n_edges[chosen])
        count = self._edges_of_atom[atoms]
        centre = torch.repeat_interleave(torch.arange(len(atoms), device=chosen.device), count)
        neighbour = self._neighbour[edges].long() + first_atom[crystal]
        return Graph(centre, neighbour, self._offset[edges].long())


def ranges(first: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Return the concatenated ranges ``first[k] .. first[k] + count[k] - 1`` and the k of each entry."""
    owner = torch.repeat_interleave(torch.arange(len(count), device=count.device), count)
    return first[owner] + rank_among_edges(owner, len(count)), owner


def _packed(graph: Graph, n_atoms: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return numbers of atoms and edges of crystals, edges of atoms, and neighbours and offsets of edges."""
    if bool((graph.centre.diff() < 0).any()):
        raise ValueError('a graph has edges that are not sorted by their centre')
    index = torch.repeat_interleave(torch.arange(len(n_atoms), device=n_atoms.device), n_atoms)
    edges_of_atom = torch.bincount(graph.centre, minlength=len(index))
    crystal = index[graph.centre]
    n_edges = torch.bincount(crystal, minlength=len(n_atoms))
    inside = graph.neighbour - (torch.cumsum(n_atoms, 0) - n_atoms)[crystal]
    return n_atoms, n_edges, edges_of_atom.int(), _narrow(inside, torch.int16), _narrow(graph.offset, torch.int8)


def _narrow(values: Tensor, smallest: torch.dtype) -> Tensor:
    """Return whole numbers as the smallest type from `smallest` that holds them."""
    largest = int(values.abs().max()) if values.numel() else 0
    for dtype in (torch.int8, torch.int16, torch.int32):
        if dtype.itemsize >= smallest.itemsize and largest <= torch.iinfo(dtype).max:
            return values.to(dtype)
    return values
