"""The neighbour graphs of the published models, cut as their authors cut them.

They keep the nearest K neighbours whatever shell that cuts, and treat an atom's own images apart from other
neighbours. Where neighbours K and K+1 are equally far, theirs and ours may keep different ones; ours does not leave it
to rounding, so that a batch, a shift of the origin or another device changes nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from aiida_e3relax.gnn.graph.shells import Graph, neighbour_graph, rank_among_edges

SELF_IMAGES = ((0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0))
"""Offsets of an atom's own images that are its neighbours."""


TIE = 1e-6
"""Distances that differ by less than about this (A) are equal."""


def nearest_neighbour_graph(
    fractional: Tensor, cell: Tensor, n_atoms: Tensor, cutoff: float, max_neighbours: int, self_images: bool = True
) -> Graph:
    """Return the graph of E3Relax and E3Relax-H2: the nearest neighbours, and six images of every atom itself.

    The published search counts the atom itself among its neighbours, except where rounding leaves its distance to
    itself at exactly zero: here always. Neighbours that are images of the atom count too, and are then dropped.

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
        Neighbours kept, the atom itself counted.
    self_images
        Whether the six images of every atom itself are added.
    """
    near = _nearest(
        neighbour_graph(fractional, cell, n_atoms, cutoff, None), fractional, cell, n_atoms, max_neighbours - 1
    )
    others = near.without_self_images()
    if not self_images:
        return others
    images = torch.tensor(SELF_IMAGES, device=near.offset.device)
    atoms = torch.arange(len(fractional), device=images.device).repeat_interleave(len(images))
    return _join(others, Graph(atoms, atoms, images.repeat(len(fractional), 1)))


def within_and_across_graph(
    fractional: Tensor, cell: Tensor, n_atoms: Tensor, cutoff: float, max_neighbours: int, max_within_cell: int
) -> Graph:
    """Return the graph of DeepRelax: pairs within the cell whatever their distance, and near neighbours across cells.

    Which atoms share a cell depends on how they are wrapped.

    Parameters
    ----------
    fractional, cell, n_atoms, cutoff
        As for `nearest_neighbour_graph`; `cutoff` holds for neighbours across cells.
    max_neighbours
        Neighbours from which those across cells are kept, the atom itself and those within its cell counted.
    max_within_cell
        Pairs within the cell kept of an atom, the nearest.
    """
    near = _nearest(
        neighbour_graph(fractional, cell, n_atoms, cutoff, None), fractional, cell, n_atoms, max_neighbours - 1
    )
    across = near.select((near.offset != 0).any(dim=1))
    first_atom = torch.repeat_interleave(torch.cumsum(n_atoms, 0) - n_atoms, n_atoms)
    same_cell = torch.repeat_interleave(n_atoms, n_atoms)
    centre = torch.repeat_interleave(torch.arange(len(fractional), device=n_atoms.device), same_cell)
    neighbour = rank_among_edges(centre, len(fractional)) + first_atom[centre]
    pairs = Graph(centre, neighbour, near.offset.new_zeros(len(centre), 3))
    within = _nearest(pairs.without_self_images(), fractional, cell, n_atoms, max_within_cell)
    return _join(within, across)


def _nearest(graph: Graph, fractional: Tensor, cell: Tensor, n_atoms: Tensor, count: int) -> Graph:
    """Return the `count` nearest edges of every centre; those equally far are taken by neighbour and offset."""
    crystal = torch.repeat_interleave(torch.arange(len(n_atoms), device=n_atoms.device), n_atoms)
    difference = fractional[graph.neighbour] - fractional[graph.centre] + graph.offset
    distance = torch.einsum('pc,pcx->px', difference, cell[crystal[graph.centre]]).norm(dim=1)
    order = torch.arange(len(distance), device=distance.device)
    for key in (*graph.offset.unbind(dim=1), graph.neighbour, torch.round(distance / TIE), graph.centre):
        order = order[torch.argsort(key[order], stable=True)]
    graph = graph.select(order)
    return graph.select(rank_among_edges(graph.centre, len(fractional)) < count)


def _join(first: Graph, second: Graph) -> Graph:
    """Return the edges of both, sorted by centre."""
    centre = torch.cat([first.centre, second.centre])
    order = torch.argsort(centre, stable=True)
    neighbour = torch.cat([first.neighbour, second.neighbour])
    return Graph(centre[order], neighbour[order], torch.cat([first.offset, second.offset])[order])
