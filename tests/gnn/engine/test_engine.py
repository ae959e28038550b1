"""The fast engine against the plain layers: same weights, same numbers, same gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from ase.build import bulk

from aiida_e3relax.gnn.engine import linear, native
from aiida_e3relax.gnn.engine.accelerate import accelerate
from aiida_e3relax.gnn.engine.tables import FilterTable, filter_table
from aiida_e3relax.gnn.graph.batch import CrystalBatch, make_batch
from aiida_e3relax.gnn.layers import RadialBasis
from aiida_e3relax.gnn.models.base import RelaxationModel
from aiida_e3relax.gnn.models.registry import MODELS, make_model
from tests.gnn.crystals import batch_of, rattled
from tests.gnn.edge_sums import (
    FUNCTIONS,
    Edges,
    check_message_sums,
    check_no_edges,
    check_not_a_number,
    check_tensor_sums,
)
from tests.gnn.networks import sizes_of

TOLERANCE = {torch.float32: 5e-5, torch.float64: 1e-7}
"""Largest difference in A of a small random network: in double precision, what the tables leave."""


@pytest.fixture(params=[True, False], ids=['kernels', 'no kernels'])
def kernels(request, monkeypatch) -> bool:
    """With the compiled kernels, and as where they were not built."""
    if not request.param:
        monkeypatch.setattr(native, 'library', lambda: None)
    elif native.library() is None:
        pytest.skip('the kernels were not built: no C++ compiler')
    return request.param


def small_model(architecture: str, dtype: torch.dtype) -> RelaxationModel:
    """Return a model with weights large enough that atoms and cells move, of a width that is no multiple of a block."""
    sizes = {'features': 72, 'layers': 2, 'radial_functions': 24}
    torch.manual_seed(1)
    return make_model(architecture, sizes_of(architecture, sizes)).to(dtype).eval()


def batch_for(model: RelaxationModel, dtype: torch.dtype) -> CrystalBatch:
    return make_batch(batch_of(*rattled(), bulk('Cu')), model.graph, dtype=dtype)


@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
@pytest.mark.parametrize('architecture', MODELS)
def test_prediction_is_that_of_the_plain_layers(architecture, dtype, kernels):
    if architecture == 'deeprelax-published' and dtype == torch.float32:
        pytest.skip('its solver turns rounding into steps of full length where symmetry leaves no gradient')
    plain = small_model(architecture, dtype)
    batch = batch_for(plain, dtype)
    fast = accelerate(copy.deepcopy(plain))
    with torch.no_grad():
        expected, found = plain(batch)[-1], fast(batch)[-1]
        again = fast(batch)[-1]
    assert (found.positions(batch) - expected.positions(batch)).abs().max() < TOLERANCE[dtype]
    assert (found.cell - expected.cell).abs().max() < TOLERANCE[dtype]
    assert torch.equal(found.cell, again.cell)


@pytest.mark.parametrize('architecture', ['e3relax-h2', 'e3relax'])
def test_gradients_are_those_of_the_plain_layers(architecture, kernels):
    plain = small_model(architecture, torch.float64)
    fast = accelerate(copy.deepcopy(plain))
    batch = batch_for(plain, torch.float64)
    weights = torch.randn(len(batch.numbers), 3, dtype=torch.float64)
    gradients = []
    for model in (plain, fast):
        geometry = model(batch)[-1]
        ((geometry.positions(batch) * weights).sum() + geometry.cell.square().sum()).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, expected in gradients[0].items():
        if expected is not None:
            difference = (gradients[1][name] - expected).norm() / expected.norm().clamp_min(1e-6)
            assert difference < 1e-5, name


def test_changed_weights_are_noticed():
    """Tables and packed weights are kept between predictions; an optimiser changes weights in place."""
    fast = accelerate(small_model('e3relax-h2', torch.float32))
    batch = batch_for(fast, torch.float32)
    with torch.no_grad():
        fast(batch)
        for parameter in fast.parameters():
            parameter.mul_(1.1)
        changed = fast(batch)[-1]
        fresh = accelerate(small_model('e3relax-h2', torch.float32))
        fresh.load_state_dict(fast.state_dict())
        expected = fresh(batch)[-1]
    assert torch.equal(changed.fractional, expected.fractional)


def _in_place(weight: torch.nn.Parameter) -> None:
    weight.mul_(1.1)


def _assigned(weight: torch.nn.Parameter) -> None:
    weight.data = weight.data * 1.1


def _at_an_address_used_before(weight: torch.nn.Parameter) -> None:
    """The second assignment may get the memory of the weights that the first has freed."""
    weight.data = weight.data * 1.05
    weight.data = weight.data * (1.1 / 1.05)


CHANGES = {'in place': _in_place, 'data': _assigned, 'data, twice': _at_an_address_used_before}


@pytest.mark.parametrize('change', CHANGES)
def test_no_weights_of_before_are_used(change):
    """An address is used again: 198 of 200 predictions had the weights of before an assignment."""
    torch.manual_seed(0)
    x = torch.randn(3, 64)
    fast = accelerate(torch.nn.Linear(64, 64))
    with torch.no_grad():
        for _ in range(100):
            fast(x)
            CHANGES[change](fast.weight)
            found, expected = fast(x), x @ fast.weight.T + fast.bias
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
            fast.weight.data = torch.randn(64, 64)


@pytest.mark.parametrize('assign', [False, True])
def test_loaded_weights_are_noticed(assign):
    fast, other = (accelerate(small_model('e3relax-h2', torch.float32)) for _ in range(2))
    batch = batch_for(fast, torch.float32)
    with torch.no_grad():
        before = fast(batch)[-1]
        for parameter in other.parameters():
            parameter.mul_(1.1)
        fast.load_state_dict(other.state_dict(), assign=assign)
        assert torch.equal(fast(batch)[-1].cell, other(batch)[-1].cell)
        assert not torch.equal(fast(batch)[-1].cell, before.cell)


def test_another_precision_and_back_is_noticed():
    fast = accelerate(small_model('e3relax-h2', torch.float32))
    batch = batch_for(fast, torch.float32)
    with torch.no_grad():
        expected = fast(batch)[-1].cell
        found = fast.double()(batch_for(fast, torch.float64))[-1].cell
        assert found.dtype == torch.float64
        torch.testing.assert_close(found.float(), expected, rtol=0, atol=TOLERANCE[torch.float32])
        assert torch.equal(fast.float()(batch)[-1].cell, expected)


def test_what_stays_is_made_once(monkeypatch):
    monkeypatch.setattr(linear, 'takes_onednn', lambda: True)
    fast = accelerate(torch.nn.Linear(8, 8))
    made = []
    pack = torch.ops.mkldnn._reorder_linear_weight
    monkeypatch.setattr(torch.ops.mkldnn, '_reorder_linear_weight', lambda weight: made.append(1) or pack(weight))
    with torch.no_grad():
        for _ in range(3):
            fast(torch.ones(1, 8))
    assert len(made) == 1


def test_weights_made_for_inference_are_followed():
    """PyTorch counts no changes of them."""
    with torch.inference_mode():
        fast = accelerate(torch.nn.Linear(8, 8))
        for _ in range(3):
            found = fast(torch.ones(1, 8))
            torch.testing.assert_close(found, torch.ones(1, 8) @ fast.weight.T + fast.bias)
            fast.weight.mul_(1.5)


@pytest.mark.parametrize('shape', [(0, 5), (0, 3, 5), (2, 0, 5)])
@pytest.mark.parametrize('with_gradient', [True, False])
def test_linear_maps_of_no_rows(shape, with_gradient):
    fast = accelerate(torch.nn.Linear(5, 7))
    x = torch.zeros(shape, requires_grad=True)
    with torch.set_grad_enabled(with_gradient):
        y = fast(x)
    assert y.shape == (*shape[:-1], 7)
    if with_gradient:
        y.sum().backward()
        assert x.grad.shape == shape
        assert not fast.weight.grad.any()


def test_parameters_stay_where_they_are():
    plain = small_model('e3relax-h2', torch.float32)
    names = list(plain.state_dict())
    assert list(accelerate(plain).state_dict()) == names


@pytest.mark.parametrize(('dtype', 'error'), [(torch.float32, 5e-6), (torch.float64, 1e-8)], ids=str)
def test_tables_hold_the_filters(dtype, error):
    basis = RadialBasis(20, 5.0).to(dtype)
    weight = torch.randn(7, 20, dtype=dtype, generator=torch.Generator().manual_seed(0))
    distance = torch.linspace(0.0, 5.5, 1001, dtype=dtype)
    expected = basis.double()(distance.double()) @ weight.double().T
    found = filter_table(basis.to(dtype), weight).interpolated(distance)
    assert (found - expected).abs().max() < error * expected.abs().max()
    assert torch.equal(found[distance >= 5.0], torch.zeros_like(found[distance >= 5.0]))


@pytest.mark.skipif(native.library() is None, reason='the kernels were not built: no C++ compiler')
@pytest.mark.parametrize('threads', [1, 3])
@pytest.mark.parametrize('features', [64, 150])
@pytest.mark.parametrize(('gated', 'with_vectors'), [(True, True), (False, True), (True, False)])
@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
def test_message_sums(dtype, gated, with_vectors, features, threads, monkeypatch):
    monkeypatch.setattr(native, 'EDGES_PER_THREAD', 10)
    monkeypatch.setattr(torch, 'get_num_threads', lambda: threads)
    check_message_sums(native, Edges(dtype, 150), features, gated, with_vectors)


@pytest.mark.skipif(native.library() is None, reason='the kernels were not built: no C++ compiler')
@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
def test_tensor_sums(dtype):
    check_tensor_sums(native, Edges(dtype, 150), channels=30, components=6)


@pytest.mark.skipif(native.library() is None, reason='the kernels were not built: no C++ compiler')
@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
def test_sums_over_no_edges(dtype):
    check_no_edges(native, Edges(dtype, 0))


@pytest.mark.skipif(native.library() is None, reason='the kernels were not built: no C++ compiler')
@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
def test_what_is_not_a_number_stays_one_edge_s_own(dtype):
    check_not_a_number(native, Edges(dtype, 40))


@pytest.mark.skipif(native.library() is None, reason='the kernels were not built: no C++ compiler')
@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
def test_an_angle_that_is_not_a_number_has_no_gates_of_another_edge(dtype):
    edges, features = Edges(dtype, 40), 70
    table = filter_table(edges.basis, edges.random(3 * features, FUNCTIONS))
    gates = FilterTable(edges.random(12, 3 * features), 2.0)
    source = edges.random(edges.atoms, 3, features)
    angle = edges.uniform(40, 3.0).detach()
    distance = edges.distance.detach().clamp_max(5.0)
    bad = 20
    angle[bad] = torch.nan
    sums = native.tabulated_message_sums(
        table, gates, source, source, edges.start, edges.neighbour, distance, edges.direction, angle
    )
    for found in sums:
        lost = found.isnan().flatten(1)
        assert lost[edges.centre[bad]].all()
        assert lost.any(dim=1).sum() == 1
