"""Triton's kernels against their formulas: on a GPU, or without one through Triton's interpreter (see conftest)."""

from __future__ import annotations

import copy
import os
import subprocess
import sys

import pytest
import torch
from ase.build import bulk

from aiida_e3relax.gnn.engine import fast_layers, native
from aiida_e3relax.gnn.engine import kernels as engine_kernels
from aiida_e3relax.gnn.engine.accelerate import accelerate
from aiida_e3relax.gnn.graph.batch import make_batch
from aiida_e3relax.gnn.models.registry import make_model
from tests.gnn.crystals import batch_of, rattled
from tests.gnn.edge_sums import Edges, check_message_sums, check_no_edges, check_not_a_number, check_tensor_sums

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
pytest.importorskip('triton', minversion=None if DEVICE == 'cuda' else '3.9')  # older interpreters refuse numpy 2.4
from aiida_e3relax.gnn.engine import triton_sums  # noqa: E402

DTYPES = [torch.float32, torch.float64]


@pytest.mark.parametrize(('gated', 'with_vectors'), [(True, True), (False, True), (True, False)])
@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_message_sums(dtype, gated, with_vectors):
    check_message_sums(triton_sums, Edges(dtype, 16, DEVICE), 24, gated, with_vectors)


@pytest.mark.parametrize('features', [1, 150])
def test_message_sums_of_less_and_more_than_a_block(features):
    check_message_sums(triton_sums, Edges(torch.float32, 12, DEVICE), features, gated=True, with_vectors=True)


@pytest.mark.parametrize(('channels', 'components'), [(30, 6), (130, 1)])
@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_tensor_sums(dtype, channels, components):
    check_tensor_sums(triton_sums, Edges(dtype, 16, DEVICE), channels, components)


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_no_edges(dtype):
    check_no_edges(triton_sums, Edges(dtype, 0, DEVICE))


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_what_is_not_a_number_stays_one_edge_s_own(dtype):
    check_not_a_number(triton_sums, Edges(dtype, 16, DEVICE))


@pytest.mark.parametrize('with_gradient', [True, False])
@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_kernels_can_be_tried_out(dtype, with_gradient):
    with torch.inference_mode():
        triton_sums.try_out(torch.device(DEVICE), dtype, 40, with_gradient)


class OnADevice:
    """What `kernels_for` asks of a tensor on a GPU."""

    is_cuda, device, dtype, shape = True, torch.device('cuda', 0), torch.float32, (4, 3, 40)


@pytest.fixture
def on_a_gpu(monkeypatch):
    monkeypatch.setattr(engine_kernels, 'triton_works', lambda: True)
    monkeypatch.setattr(native, 'usable', lambda tensor: False)
    engine_kernels.triton_launches.cache_clear()
    yield OnADevice()
    engine_kernels.triton_launches.cache_clear()


@pytest.mark.parametrize(
    'error',
    [
        OSError('libcuda.so.1: cannot open shared object file'),
        RuntimeError('PTXAS error: ptxas fatal: Value sm_120 is not defined'),
        AssertionError('libcuda.so cannot found!'),
        subprocess.CalledProcessError(1, 'gcc'),
    ],
    ids=repr,
)
def test_kernels_that_do_not_launch_give_way_once_and_for_all(on_a_gpu, monkeypatch, error):
    tried = []

    def fail(*arguments):
        tried.append(arguments)
        raise error

    monkeypatch.setattr(triton_sums, 'try_out', fail)
    with torch.no_grad():
        with pytest.warns(RuntimeWarning, match=f'kernels do not run on cuda:0, .*{type(error).__name__}'):
            assert engine_kernels.kernels_for(on_a_gpu) is None
        assert engine_kernels.kernels_for(on_a_gpu) is None
    assert len(tried) == 1


def test_kernels_that_launch_are_taken(on_a_gpu, monkeypatch):
    monkeypatch.setattr(triton_sums, 'try_out', lambda *_: None)
    assert engine_kernels.kernels_for(on_a_gpu) is triton_sums


def test_memory_that_runs_out_meanwhile_decides_nothing(on_a_gpu, monkeypatch):
    monkeypatch.setattr(triton_sums, 'try_out', lambda *_: (_ for _ in ()).throw(RuntimeError('CUDA out of memory')))
    with pytest.raises(RuntimeError, match='out of memory'):
        engine_kernels.kernels_for(on_a_gpu)
    monkeypatch.setattr(triton_sums, 'try_out', lambda *_: None)
    assert engine_kernels.kernels_for(on_a_gpu) is triton_sums


def test_model_and_its_gradients(monkeypatch):
    """The whole engine over Triton's sums against the plain layers."""
    torch.manual_seed(1)
    plain = make_model('e3relax-h2', {'features': 8, 'layers': 2, 'max_neighbours': 4, 'cutoff': 4.0})
    plain = plain.to(DEVICE, torch.float64)
    batch = make_batch(batch_of(rattled()[0], bulk('Cu')), plain.graph, DEVICE, torch.float64)
    fast = accelerate(copy.deepcopy(plain))
    monkeypatch.setattr(fast_layers, 'kernels_for', lambda tensor: triton_sums)
    gradients = []
    for model in (plain, fast):
        geometry = model(batch)[-1]
        loss = geometry.positions(batch).square().sum() + geometry.cell.square().sum()
        gradients.append([loss, *torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)])
    for expected, found in zip(*gradients, strict=True):
        if expected is not None:
            assert (found - expected).norm() < 1e-5 * expected.norm().clamp_min(1e-6)


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from aiida_e3relax.gnn.engine import triton_kernels as kernels

GATE = {'features': 512, 'coefficients': 4, 'padded_coefficients': 4}
PARTS = {'features': 32, 'block': 32, 'components': 6, 'padded_components': 8}


def check(kernel, real, absent=(), **sizes):
    signature, constants = {}, sizes | dict.fromkeys(absent)
    for name in kernel.arg_names:
        if name in constants:
            signature[name] = 'constexpr'
        elif name in ('start', 'neighbour'):
            signature[name] = '*i64'
        else:
            signature[name] = 'i32' if name in ('table_rows', 'edges') else f'*{real}'
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    compiled = triton.compile(source, target=GPUTarget('cuda', 90, 32), options={'num_warps': 1})
    assert '.entry' in compiled.asm['ptx']


for real, block in (('fp32', 128), ('fp64', 64)):
    check(kernels.messages, real, block=block, **GATE)
    check(kernels.messages_backward, real, block=block, **GATE)
    check(kernels.tensors, real, **PARTS)
    check(kernels.tensors_backward, real, **PARTS)
ungated = ('projection', 'coefficient', 'vectors')
check(kernels.messages, 'fp32', ungated, block=128, **GATE)
check(kernels.messages_backward, 'fp32', (*ungated, 'for_coefficient', 'for_vectors'), block=128, **GATE)
"""


def test_kernels_compile_for_a_gpu_that_is_not_there(tmp_path):
    environment = os.environ | {'TRITON_INTERPRET': '0', 'TRITON_CACHE_DIR': str(tmp_path)}
    script = tmp_path / 'compile.py'
    script.write_text(COMPILE)
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
