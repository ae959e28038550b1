import functools
import itertools

import ase.neighborlist
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.geometry.minkowski_reduction import minkowski_reduce
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_e3relax.gnn.graph import pair_search
from aiida_e3relax.gnn.graph import shells as graph_module
from aiida_e3relax.gnn.graph.batch import make_batch
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
    monkeypatch.setitem(pair_search.MAX_CANDIDATES, 'cpu', max_candidates)
    graphs = []
    for search in (pair_search.pairs_by_vesin, pair_search.pairs_by_torch):
        monkeypatch.setattr(pair_search, 'search_pairs', search)
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


components = st.one_of(st.integers(-12, 12).map(lambda n: n / 2), st.floats(-6, 6))
sums = st.lists(st.tuples(st.sampled_from([(0, 1), (1, 2), (2, 0), (1, 0)]), st.integers(-30, 30)), max_size=3)


@st.composite
def crystals(draw) -> Atoms:
    """A few atoms, often outside of their cell, in a cell of any shape."""
    cell = np.array(draw(st.lists(components, min_size=9, max_size=9))).reshape(3, 3)
    while abs(np.linalg.det(cell)) < 8:
        cell = cell + 3 * np.eye(3)
    for (to, of), times in draw(sums):
        cell[to] += times * cell[of]
    inside = draw(st.lists(st.tuples(*[st.floats(-2, 2)] * 3), min_size=1, max_size=4))
    return Atoms(f'H{len(inside)}', scaled_positions=inside, cell=cell, pbc=True)


@settings(max_examples=40, deadline=None)
@given(crystals(), st.booleans())
def test_neighbours_in_any_cell_are_those_of_its_reduced_one(atoms, by_torch):
    """Distances by brute force in the reduced cell of ASE, and the offsets give these distances."""
    search = pair_search.pairs_by_torch if by_torch else pair_search.pairs_by_vesin
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pair_search, 'search_pairs', search)
        graph = graph_of([atoms], 4.0, None)
    vectors = atoms.positions[graph.neighbour] + graph.offset.numpy() @ atoms.cell.array - atoms.positions[graph.centre]
    reduced = np.array(minkowski_reduce(atoms.cell)[0])
    inside = np.linalg.solve(reduced.T, atoms.positions.T).T % 1.0
    images = np.array(list(itertools.product(range(-9, 10), repeat=3))) @ reduced
    every = (inside[:, None] - inside[None]) @ reduced
    expected = np.linalg.norm(every[:, :, None] + images, axis=3)
    own = np.arange(len(atoms))
    expected[own, own, np.flatnonzero(~images.any(axis=1))] = np.inf  # an atom is no neighbour of itself
    np.testing.assert_allclose(
        np.sort(np.linalg.norm(vectors, axis=1)),
        np.sort(expected[expected < 4.0 - graph_module.CUTOFF_TOLERANCE]),
        atol=1e-6,
    )


def test_a_skewed_cell_has_the_neighbours_of_the_lattice():
    start = bulk('Cu', a=3.615)
    skewed = start.copy()
    skewed.set_cell(np.array([[1, 0, 0], [2000, 1, 0], [0, -700, 1]]) @ start.cell.array)
    graph = graph_of([skewed], 6.0, None)
    lengths = np.linalg.norm(graph.offset.numpy() @ skewed.cell.array, axis=1)
    assert lengths[lengths < 2.6].size == 12
    assert len(lengths) == len(edges_of(start, 6.0))


@pytest.mark.parametrize(
    ('cell', 'words'),
    [([6, 5000, 5000], '6.9e.05 boxes in the cell'), ([0.02, 0.02, 0.02], 'pairs')],
)
def test_a_search_that_would_not_end_is_refused(cell, words):
    """The first divided by zero in vesin, which ended the process."""
    with pytest.raises(ValueError, match=words):
        graph_of([Atoms('Cu', cell=cell, pbc=True)], 6.0, None)
