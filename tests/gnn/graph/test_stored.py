"""Graphs of a whole data set in a few bytes an edge, searched piece by piece."""

import numpy as np
import pytest
import torch
from ase.build import bulk, make_supercell

from aiida_e3relax.gnn.graph import shells
from aiida_e3relax.gnn.graph.batch import make_batch
from aiida_e3relax.gnn.graph.shells import Graph
from aiida_e3relax.gnn.graph.stored import StoredGraph
from aiida_e3relax.gnn.models.registry import make_model
from aiida_e3relax.gnn.training import batches
from aiida_e3relax.gnn.training.batches import PreparedPairs
from tests.gnn.crystals import PROTOTYPES, batch_of
from tests.gnn.pairs import made_pairs

CPU = torch.device('cpu')


def equal(one: Graph, other: Graph) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in ('centre', 'neighbour', 'offset'))


@pytest.mark.parametrize('architecture', ['e3relax-h2', 'e3relax-h2-published', 'deeprelax-published'])
def test_batches_have_the_graphs_that_their_crystals_have(architecture):
    model = make_model(architecture, {'features': 8, 'layers': 1})
    crystals = batch_of(*(make() for make in PROTOTYPES.values()))
    whole = make_batch(crystals, model.graph)
    stored = StoredGraph([(whole.graph, whole.n_atoms)])
    assert stored.bytes_of_edge == 5
    chosen = np.array([3, 0, 8])
    assert equal(stored.select(torch.from_numpy(chosen)), make_batch(crystals.select(chosen), model.graph).graph)


def test_numbers_that_are_large_are_stored_as_they_are():
    n = 200
    atoms = torch.arange(n)
    offset = torch.tensor([[40_000, -3, 0]]).expand(n, 3)
    stored = StoredGraph([(Graph(atoms, atoms.flip(0), offset), torch.tensor([n]))])
    assert equal(stored.select(torch.tensor([0])), Graph(atoms, atoms.flip(0), offset))


def test_edges_that_are_not_sorted_are_refused():
    graph = Graph(torch.tensor([1, 0]), torch.tensor([0, 1]), torch.zeros(2, 3, dtype=torch.long))
    with pytest.raises(ValueError, match='not sorted'):
        StoredGraph([(graph, torch.tensor([2]))])


def test_pieces_give_the_graph_of_the_whole(monkeypatch):
    pairs, model = made_pairs(3), make_model('dummy', {})
    frames = [make() for make in PROTOTYPES.values()]
    frames.insert(4, make_supercell(bulk('Cu'), 3 * np.eye(3)))  # larger than a piece, and denser than its neighbours
    crystals = batch_of(*frames)
    whole, prepared = make_batch(crystals, model.graph), PreparedPairs(pairs, model, CPU)
    monkeypatch.setattr(shells, 'PIECE_ATOMS', {'cpu': 7})
    monkeypatch.setattr(batches, 'PIECE_ATOMS', 11)
    assert equal(make_batch(crystals, model.graph).graph, whole.graph)
    order = np.array([5, 2, 26, 11])
    (batch, target), (expected, its_target) = (p.select(order) for p in (PreparedPairs(pairs, model, CPU), prepared))
    assert equal(batch.graph, expected.graph)
    for one, other in ((batch.fractional, expected.fractional), (target.fractional, its_target.fractional)):
        assert torch.equal(one, other)


def test_a_crystal_that_is_too_large_is_named_by_its_place_in_the_batch(monkeypatch):
    frames = [bulk('Cu'), bulk('Cu'), bulk('Cu', a=0.001)]
    monkeypatch.setattr(shells, 'PIECE_ATOMS', {'cpu': 1})
    with pytest.raises(ValueError, match='crystal 2 of the batch'):
        make_batch(batch_of(*frames), make_model('dummy', {}).graph)
