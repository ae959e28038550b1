"""PyTorch Geometric at the edge: batches and pairs there and back, and its own loaders over them."""

import dataclasses
import functools
import sys

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch, Data, InMemoryDataset
from torch_geometric.loader import DataLoader

from aiida_e3relax.common.errors import InputError, MissingPackageError
from aiida_e3relax.crystals.pairs import Pairs, aligned
from aiida_e3relax.gnn import pyg
from aiida_e3relax.gnn.graph.batch import Geometry, make_batch
from aiida_e3relax.gnn.graph.shells import neighbour_graph
from aiida_e3relax.gnn.models.loss_settings import LossSettings
from aiida_e3relax.gnn.models.losses import Target
from aiida_e3relax.gnn.models.registry import make_model
from tests.gnn.crystals import batch_of, rattled
from tests.gnn.pairs import made_pairs

GRAPH = functools.partial(neighbour_graph, cutoff=5.0, max_neighbours=10)


@pytest.fixture
def batch():
    return make_batch(batch_of(*rattled()), GRAPH)


@pytest.fixture
def target(batch):
    return Geometry(batch.fractional + 0.01, batch.cell * 1.02)


@pytest.fixture(scope='module')
def pairs() -> Pairs:
    return made_pairs(3).select(np.arange(0, 27, 4))


def assert_equal(found, expected):
    """Equal to the bit, field by field."""
    assert type(found) is type(expected)
    for field in dataclasses.fields(expected):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        if dataclasses.is_dataclass(other):
            assert_equal(one, other)
        elif isinstance(other, torch.Tensor):
            assert one.dtype == other.dtype
            assert torch.equal(one, other), field.name
        elif isinstance(other, np.ndarray):
            np.testing.assert_array_equal(one, other, err_msg=field.name)
        elif isinstance(other, dict):
            assert list(one) == list(other), field.name
            for name in other:
                np.testing.assert_array_equal(one[name], other[name], err_msg=name)
        else:
            assert one == other, field.name


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_batch_there_and_back_is_the_same(dtype):
    batch = make_batch(batch_of(*rattled()), GRAPH, dtype=dtype)
    target = Geometry(batch.fractional + 0.01, batch.cell * 1.02)
    data = pyg.to_pyg(batch, target)
    found, found_target = pyg.from_pyg(data)
    assert_equal(found, batch)
    assert_equal(found_target, Target.of(target))
    model = make_model('egnn', {'features': 8, 'layers': 1}).to(dtype)
    losses, _ = model.loss(found, found_target, LossSettings())
    assert torch.equal(losses, model.loss(batch, Target.of(target), LossSettings())[0])
    assert pyg.from_pyg(pyg.to_pyg(batch))[1] is None
    fixed = torch.arange(3 * len(batch.numbers)).view(-1, 3) % 4 == 0
    held = dataclasses.replace(batch, fixed=fixed, fixed_cell=torch.tensor([True, False, True]))
    assert_equal(pyg.from_pyg(pyg.to_pyg(held))[0], held)
    assert_equal(pyg.from_pyg(Batch.from_data_list(data.to_data_list()))[0], batch)


def test_names_mean_what_users_of_pyg_expect(batch):
    data = pyg.to_pyg(batch)
    assert data.num_graphs == len(data.natoms) == 3
    assert data.batch.tolist() == batch.structure_index.tolist()
    source, centre = data.edge_index
    cell = data.cell[data.batch[centre]]
    vectors = data.pos[source] + (data.cell_offsets[:, None].float() @ cell)[:, 0] - data.pos[centre]
    torch.testing.assert_close(vectors, batch.edge_vectors(batch.fractional, batch.cell), atol=1e-5, rtol=0)
    one = data.get_example(1)
    assert int(one.edge_index.max()) == one.num_nodes - 1
    alone, _ = pyg.from_pyg(one)
    assert torch.equal(alone.fractional, batch.fractional[batch.structure_index == 1])


def test_gradients_pass(batch):
    moved = dataclasses.replace(batch, fractional=batch.fractional.clone().requires_grad_())
    pyg.to_pyg(moved).pos.square().sum().backward()
    assert moved.fractional.grad.abs().max() > 0


def test_positions_alone_and_unsorted_edges_do_too(batch):
    data = pyg.to_pyg(batch)
    del data.frac
    order = torch.randperm(data.num_edges, generator=torch.Generator().manual_seed(0))
    data.edge_index, data.cell_offsets = data.edge_index[:, order], data.cell_offsets[order]
    found, _ = pyg.from_pyg(data)
    torch.testing.assert_close(found.fractional, batch.fractional, atol=1e-6, rtol=0)
    assert (found.graph.centre.diff() >= 0).all()

    def length(of):
        return of.edge_vectors(of.fractional, of.cell).norm(dim=1).sort().values

    torch.testing.assert_close(length(found), length(batch))
    del data.edge_index, data.cell_offsets
    searched, _ = pyg.from_pyg(data, GRAPH)
    assert len(searched.graph.centre) == len(batch.graph.centre)


@pytest.mark.parametrize(
    ('name', 'change', 'message'),
    [
        ('z', None, 'z: expected a tensor, found none'),
        ('z', lambda z: z + 200, r'z: expected atomic numbers \(A,\) from 1 to 118'),
        ('cell', lambda cell: cell[:, 0], r'cell: expected finite cells \(S, 3, 3\), found float32 \(3, 3\)|batch: '),
        ('pos', lambda pos: pos + 0.1, 'pos and frac @ cell differ by 0.1 A: one of them was changed'),
        ('pos', lambda pos: pos[1:], r'pos: expected finite vectors \(12, 3\), found float32 \(11, 3\)'),
        ('batch', lambda index: index.flip(0), 'batch: expected the crystal of each of 12 atoms, in order'),
        ('cell_offsets', lambda offset: offset[1:], 'edge_index, cell_offsets: expected the ends'),
        ('cell_offsets', lambda offset: offset + 0.5, 'cell_offsets: expected whole numbers of cells, found vectors'),
        ('edge_index', lambda ends: ends + 20, 'edge_index: expected atoms from 0 to 11'),
        (
            'edge_index',
            lambda ends: ends.flip(1).roll(1, 0) * torch.tensor([[1], [0]]),
            'expected edges within a crystal',
        ),
        ('edge_index', None, 'edge_index: expected a tensor, found none'),
        ('cell_relaxed', lambda cell: cell[1:], 'cell_relaxed: expected 3 cells as in `cell`, found 2'),
    ],
)
def test_what_is_wrong_is_told_by_name(batch, target, name, change, message):
    data = pyg.to_pyg(batch, target)
    if change is None:
        del data[name]
    else:
        data[name] = change(data[name])
    with pytest.raises(InputError, match=message):
        pyg.from_pyg(data)


def test_what_is_fixed_travels_with_pairs(pairs):
    fixed = np.random.default_rng(0).random(pairs.unrelaxed.positions.shape) < 0.3
    masked = dataclasses.replace(pairs, fixed=fixed, fixed_cell=np.arange(len(pairs)) % 2 == 0)
    examples = pyg.pairs_to_pyg(masked)
    assert_equal(pyg.pairs_from_pyg(examples), masked)
    for example in examples:  # as OC20 has it: an atom is fixed or free
        example.fixed = torch.ones(example.num_nodes, dtype=torch.long)
    assert pyg.pairs_from_pyg(examples).fixed.all()
    examples[1].fixed = torch.ones(99)
    with pytest.raises(InputError, match=r'example 1 .*: fixed: expected a mask of shape'):
        pyg.pairs_from_pyg(examples)


@pytest.mark.parametrize('is_aligned', [False, True])
def test_pairs_there_and_back_are_the_same(pairs, is_aligned):
    about = {'kind': np.resize(['real', 'distilled'], len(pairs)), 'family': np.resize(['', 'a b'], len(pairs))}
    before = dataclasses.replace(aligned(pairs) if is_aligned else pairs, about=about)
    assert_equal(pyg.pairs_from_pyg(pyg.pairs_to_pyg(before, GRAPH)), before)


def test_fixed_cells_need_no_relaxed_ones(batch, target):
    data = pyg.to_pyg(batch, target)
    del data.cell_relaxed, data.frac_relaxed
    assert pyg.from_pyg(data)[1] is None  # whether the cells were kept is not said
    data.fixed_cell = torch.ones(len(batch.cell), dtype=torch.bool)
    data.pos_relaxed = data.pos + 0.1
    found, its_target = pyg.from_pyg(data)
    assert torch.equal(its_target.cell, batch.cell)
    torch.testing.assert_close(its_target.positions(found), data.pos_relaxed)


def test_loader_of_pyg_batches_pairs_for_a_model(pairs):
    examples = pyg.pairs_to_pyg(pairs, GRAPH, dtype=torch.float32)
    (data,) = DataLoader(examples, batch_size=len(examples))
    batch, target = pyg.from_pyg(data)
    expected = make_batch(pairs.unrelaxed, GRAPH)
    assert_equal(batch.graph, expected.graph)
    torch.testing.assert_close(batch.fractional, expected.fractional, atol=1e-6, rtol=0)
    torch.testing.assert_close(target.positions(batch), torch.tensor(pairs.relaxed.positions).float())
    assert data.split == pairs.split.tolist()


def test_data_set_of_pyg_keeps_pairs(pairs, tmp_path):
    InMemoryDataset.save(pyg.pairs_to_pyg(pairs), tmp_path / 'pairs.pt')
    stored = InMemoryDataset(tmp_path)
    stored.load(tmp_path / 'pairs.pt')
    assert_equal(pyg.pairs_from_pyg(stored), pairs)


def test_examples_of_others_become_pairs():
    example = {'z': torch.tensor([29]), 'pos': torch.zeros(1, 3), 'cell': torch.eye(3) * 3, 'split': 'train'}
    relaxed = {'pos_relaxed': torch.zeros(1, 3), 'cell_relaxed': torch.eye(3) * 2.9}
    found = pyg.pairs_from_pyg([Data(**example, **relaxed)])
    assert found.unrelaxed.labels.tolist() == ['0']
    assert found.source.tolist() == ['pyg']
    assert found.unrelaxed.pbc.all()
    with pytest.raises(InputError, match=r'example 1 \(without label\): cell_relaxed: expected a tensor, found none'):
        pyg.pairs_from_pyg([Data(**example, **relaxed), Data(**example)])
    with pytest.raises(
        InputError, match=r'example 0 .*: split: expected train, val or test, or a named one .*, found None'
    ):
        pyg.pairs_from_pyg([Data(**{**example, 'split': None}, **relaxed)])


def test_missing_package_is_told_with_the_line_that_installs_it(batch, monkeypatch):
    for name in [name for name in sys.modules if name.startswith('torch_geometric')]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, 'torch_geometric', None)
    pyg._package.cache_clear()
    with pytest.raises(MissingPackageError, match=r"needs? the package torch-geometric.*\[baselines\]'"):
        pyg.to_pyg(batch)
