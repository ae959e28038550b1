"""Padded batches predict what they predict, and replayed graphs what the model does."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from ase.build import bulk
from torch.utils._python_dispatch import TorchDispatchMode

from aiida_e3relax.gnn.engine import cuda_graphs
from aiida_e3relax.gnn.engine.accelerate import accelerate
from aiida_e3relax.gnn.engine.cuda_graphs import ReplayedModel
from aiida_e3relax.gnn.engine.padding import EDGES_PER_ATOM, BatchShape, padded_batch
from aiida_e3relax.gnn.graph.batch import CrystalBatch, make_batch
from aiida_e3relax.gnn.models.base import RelaxationModel
from aiida_e3relax.gnn.models.registry import MODELS, make_model
from tests.gnn.crystals import batch_of, rattled
from tests.gnn.networks import sizes_of


def small_model(architecture: str) -> RelaxationModel:
    sizes = sizes_of(architecture, {'features': 16})
    torch.manual_seed(1)
    return make_model(architecture, sizes).double().eval()


def batch_for(model: RelaxationModel, seed: int = 0, device: str = 'cpu') -> CrystalBatch:
    return make_batch(batch_of(*rattled(seed)), model.graph, device, torch.float64)


@pytest.mark.parametrize('count', [0, 1, 4, 5, 9, 16, 17, 1000, 23_456])
def test_shapes_are_few_and_little_larger(count):
    shape = BatchShape(3, count + 3, count)
    padded = shape.padded()
    assert padded.crystals == 4
    assert count <= padded.edges <= 1.25 * count
    assert padded.atoms >= shape.atoms + 1
    assert padded.edges - count <= EDGES_PER_ATOM * (padded.atoms - shape.atoms)
    assert len({BatchShape(3, 1000, edges).padded().edges for edges in range(1024, 2049)}) <= 5


@pytest.mark.parametrize('architecture', MODELS)
def test_padding_changes_no_prediction(architecture):
    model = small_model(architecture)
    batch = batch_for(model)
    own, shape = BatchShape.of(batch), BatchShape.of(batch).padded()
    padded = padded_batch(batch, shape)
    assert BatchShape.of(padded) == shape
    assert padded.n_atoms.sum() == shape.atoms
    assert torch.equal(padded.structure_index.bincount(), padded.n_atoms)
    assert (padded.graph.centre.diff() >= 0).all()
    with torch.no_grad():
        expected, found = model(batch)[-1], model(padded)[-1]
    torch.testing.assert_close(found.fractional[: own.atoms], expected.fractional, rtol=0, atol=1e-10)
    torch.testing.assert_close(found.cell[: own.crystals], expected.cell, rtol=0, atol=1e-10)
    assert torch.isfinite(found.fractional).all()
    assert torch.isfinite(found.cell).all()


def test_crystals_are_added_where_none_have_edges():
    model = small_model('e3relax-h2')
    lone = bulk('Cu')
    lone.set_cell(lone.cell * 10)
    batch = make_batch(batch_of(lone), model.graph, dtype=torch.float64)
    padded = padded_batch(batch, BatchShape(5, 7, 3))
    assert padded.n_atoms.tolist() == [1, 1, 1, 1, 3]
    assert padded.graph.centre.tolist() == [1, 3, 5]


WAITS = {
    '_linalg_check_errors', '_linalg_det', '_local_scalar_dense', 'bincount', 'lift_fresh', 'linalg_inv_ex',
    'masked_select', 'nonzero', 'repeat_interleave', 'unique_dim',
}  # fmt: skip
"""Operators that on a GPU make the host wait, or copy from its memory: a graph cannot hold them."""


class Operators(TorchDispatchMode):
    """Collects the names of the operators that are called."""

    def __init__(self):
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        if func is torch.ops.aten.index.Tensor and any(t is not None and t.dtype == torch.bool for t in args[1]):
            self.names.add('nonzero')  # which a GPU's implementation calls
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize('engine', [lambda model: model, accelerate], ids=['reference', 'fast'])
@pytest.mark.parametrize('architecture', [name for name, model in MODELS.items() if model.capturable])
def test_a_forward_pass_never_waits_for_the_device(architecture, engine):
    model = engine(small_model(architecture))
    batch = batch_for(model)
    shape = BatchShape.of(batch).padded()
    with torch.no_grad():
        model(batch)
        with Operators() as operators:
            model(padded_batch(batch, shape))
    assert operators.names
    assert not operators.names & WAITS


@pytest.mark.parametrize('architecture', ['e3relax-h2', 'e3relax-h2-published', 'painn', 'painn-published'])
def test_nor_does_it_where_atoms_and_cells_are_fixed(architecture):
    model = small_model(architecture)
    batch = batch_for(model)
    fixed = torch.zeros(len(batch.numbers), 3, dtype=torch.bool)
    fixed[:2] = True
    batch = dataclasses.replace(batch, fixed=fixed, fixed_cell=torch.arange(len(batch.n_atoms)) == 0)
    with torch.no_grad():
        model(batch)
        with Operators() as operators:
            model(padded_batch(batch, BatchShape.of(batch).padded()))
    assert operators.names
    assert not operators.names & WAITS


def test_models_declare_what_can_be_captured():
    assert [name for name in MODELS if not MODELS[name].capturable] == ['deeprelax', 'deeprelax-published']
    members = {'member': 'deeprelax', 'member_hyperparameters': {'features': 8, 'layers': 1}}
    assert not make_model('ensemble', members).capturable


class Streams:
    """What CUDA keeps of its current stream; a capture that fails leaves another one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception):
        self.current = 'own'
        monkeypatch.setattr(torch.cuda, 'current_stream', lambda *_: self.current)
        monkeypatch.setattr(torch.cuda, 'set_stream', lambda stream: setattr(self, 'current', stream))
        monkeypatch.setattr(torch.cuda, 'graph_pool_handle', lambda: 'pool')
        self.error, self.captures = error, 0
        monkeypatch.setattr(cuda_graphs, '_Captured', self._capture)

    def _capture(self, *_: object) -> None:
        self.current = 'side'
        self.captures += 1
        raise self.error


class OnADevice:
    """A batch that says that it lies on a GPU."""

    def __init__(self, batch: CrystalBatch):
        self.batch = batch
        self.cell = SimpleNamespace(is_cuda=True, device='cuda:0')

    def __getattr__(self, name: str) -> object:
        return getattr(self.batch, name)


@pytest.fixture
def on_a_gpu(monkeypatch):
    model = small_model('dummy')
    monkeypatch.setattr(cuda_graphs, 'padded_batch', lambda batch, shape: batch)
    return model, OnADevice(batch_for(model))


def test_a_capture_that_fails_is_not_tried_again_and_leaves_the_stream(on_a_gpu, monkeypatch):
    model, batch = on_a_gpu
    streams = Streams(monkeypatch, RuntimeError('operation not permitted when stream is capturing'))
    replayed = ReplayedModel(model)
    replayed(batch)
    with pytest.warns(RuntimeWarning, match='Dummy runs without CUDA graphs'):
        replayed(batch)
    replayed(batch)
    assert (streams.captures, streams.current) == (1, 'own')


def test_memory_that_runs_out_in_a_capture_is_for_the_caller(on_a_gpu, monkeypatch):
    model, batch = on_a_gpu
    streams = Streams(monkeypatch, RuntimeError('CUDA error: CUBLAS_STATUS_ALLOC_FAILED'))
    replayed = ReplayedModel(model)
    replayed(batch)
    with pytest.raises(RuntimeError, match='ALLOC_FAILED'):
        replayed(batch)
    assert streams.current == 'own'
    replayed.release()
    assert not replayed._captured


def test_what_cannot_be_captured_is_not_tried(on_a_gpu, monkeypatch):
    model, batch = on_a_gpu
    streams = Streams(monkeypatch, AssertionError('tried'))
    monkeypatch.setattr(type(model), 'capturable', False)
    replayed = ReplayedModel(model)
    for _ in range(3):
        replayed(batch)
    assert not streams.captures


def test_without_a_gpu_the_model_runs():
    model = small_model('e3relax-h2')
    batch = batch_for(model)
    found = ReplayedModel(model)(batch)
    assert not found.cell.requires_grad
    assert torch.equal(found.cell, model(batch)[-1].cell)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('engine', [lambda model: model, accelerate], ids=['reference', 'fast'])
@pytest.mark.parametrize('architecture', ['e3relax-h2', 'e3relax'])
def test_replay_is_the_forward_pass(architecture, engine):
    model = engine(small_model(architecture).cuda())
    replayed = ReplayedModel(model)
    for seed in range(6):
        batch = batch_for(model, seed, 'cuda')
        with torch.no_grad():
            expected = model(batch)[-1]
        found = replayed(batch)
        torch.testing.assert_close(found.fractional, expected.fractional, rtol=0, atol=1e-9)
        torch.testing.assert_close(found.cell, expected.cell, rtol=0, atol=1e-9)
    assert any(replayed._captured.values())
