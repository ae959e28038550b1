import functools

import ase.neighborlist
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from aiida_e3relax.gnn import graph as graph_module
from aiida_e3relax.gnn import neighbour_search
from aiida_e3relax.gnn.batch import make_batch
from tests.gnn.crystals import PROTOTYPES, batch_of, rattled


def graph_of(frames: list[Atoms], cutoff: float, max_neighbours: int | None) -> graph_module.Graph:
    build = functools.partial(graph_module.neighbour_graph, cutoff=cutoff, max_neighbours=max_neighbours)
    return make_batch(batch_of(*frames), build, dtype=torch.float64).graph


def edges_of(atoms: Atoms, cutoff: float, max_neighbours: int | None = None) -> set[tuple[int, ...]]:
    graph = graph_of([atoms], cutoff, max_neighbours)
    rows = torch.cat([graph.centre[:, None], graph.neighbour[:, None], graph.offset], dim=1)
    assert bool((graph.centre[1:] >= graph.centre[:-1]).all()), 'edges are sorted by centre'
    return {tuple(row) for row in rows.tolist()}


def edges_by_ase(atoms: Atoms, cutoff: float) -> set[tuple[int, ...]]:
    i, j, shift = ase.neighborlist.primitive_neighbor_list('ijS', [True] * 3, atoms.cell, atoms.positions, cutoff)
    return {(int(a), int(b), *map(int, s)) for a, b, s in zip(i, j, shift, strict=True)}


NEEDLE = Atoms('CO', scaled_positions=[(0, 0, 0), (0.4, 0.5, 0.1)], cell=np.diag([2.5, 2.6, 40.0]), pbc=True)
SKEWED = Atoms('Si', cell=[[3, 0, 0], [8, 3, 0], [1, 7, 3]], pbc=True)


@pytest.mark.parametrize(
    'atoms', [*rattled(), NEEDLE, SKEWED, bulk('Cu', a=3.615)], ids=lambda a: a.get_chemical_formula()
)
@pytest.mark.parametrize('cutoff', [3.0, 6.0])
def test_neighbours_are_those_of_ase(atoms, cutoff):
    assert edges_of(atoms, cutoff) == edges_by_ase(atoms, cutoff)


def test_unwrapped_positions_give_the_same_vectors():
    atoms = rattled()[0]
    atoms.positions[0] += [3, -2, 1] @ atoms.cell.array
    assert edges_of(atoms, 5.0) == edges_by_ase(atoms, 5.0)


@pytest.mark.parametrize(('max_neighbours', 'expected'), [(1, 12), (12, 12), (13, 18), (18, 18), (19, 42)])
def test_shells_are_kept_whole(max_neighbours, expected):
    """Shells of fcc: 12, 6, 24, 12, ..."""
    assert len(edges_of(bulk('Cu', a=3.615), 6.0, max_neighbours)) == expected


DEGENERATE = [PROTOTYPES[name]() for name in ('rock salt', 'caesium chloride', 'hcp', 'perovskite')]
SLAB = bulk('Si', 'diamond', a=5.43, cubic=True)
SLAB.center(vacuum=10, axis=2)
LEFT_HANDED = rattled()[2]
LEFT_HANDED.set_cell(LEFT_HANDED.cell.array * [[1], [1], [-1]])
TINY = Atoms('H', cell=np.eye(3) * 1.1, pbc=True)
ON_TOP = Atoms('H2', positions=[(0, 0, 0), (0, 0, 0)], cell=np.eye(3) * 3, pbc=True)
LARGE = bulk('Si', 'diamond', a=5.43, cubic=True) * (3, 3, 3)
LARGE.rattle(0.1, seed=1)
FRAMES = [*rattled(), *DEGENERATE, NEEDLE, SKEWED, SLAB, LEFT_HANDED, TINY, ON_TOP, LARGE]


@pytest.mark.parametrize('max_neighbours', [None, 12, 24])
@pytest.mark.parametrize('max_candidates', [200_000, 1000])
def test_both_searches_give_the_same_graph(monkeypatch, max_neighbours, max_candidates):
    monkeypatch.setitem(neighbour_search.MAX_CANDIDATES, 'cpu', max_candidates)
    graphs = []
    for search in (neighbour_search.pairs_by_vesin, neighbour_search.pairs_by_torch):
        monkeypatch.setattr(neighbour_search, 'pairs_within', search)
        graph = graph_of(FRAMES, 6.0, max_neighbours)
        rows = torch.cat([graph.centre[:, None], graph.neighbour[:, None], graph.offset], dim=1)
        graphs.append(sorted(map(tuple, rows.tolist())))
    assert graphs[0] == graphs[1]


@pytest.mark.parametrize('stretch', [0.0, 1e-14, -1e-14])
def test_a_shell_at_the_cutoff_is_not_split(stretch):
    cell = np.diag([3.0, 3.0 + stretch, 3.0 - stretch])
    assert len(edges_of(Atoms('Po', cell=cell, pbc=True), 3.0)) == 0
    assert len(edges_of(Atoms('Po', cell=cell, pbc=True), 3.01)) == 6


def test_atoms_on_top_of_each_other_are_neighbours():
    assert (0, 1, 0, 0, 0) in edges_of(ON_TOP, 2.0)


def test_atom_without_neighbours_has_no_edges():
    assert edges_of(Atoms('He', cell=np.eye(3) * 20, pbc=True), 6.0) == set()
