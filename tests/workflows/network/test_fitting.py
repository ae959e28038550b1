"""The batch that a run of the network begins with, by what fitted into the memory of the device before."""

from __future__ import annotations

from typing import Any

import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager

from aiida_e3relax.calculations.predict import E3RelaxCalculation
from aiida_e3relax.calculations.predict_parameters import PredictParameters
from aiida_e3relax.workflows.network.base import SMALLEST_MAX_EDGES, E3RelaxBaseWorkChain
from aiida_e3relax.workflows.network.fitting import LOOKED_AT, Fitting, find_fitting

L4 = {'used': 'cuda:0', 'name': 'NVIDIA L4', 'memory_mb': 23e3}
H200 = {'used': 'cuda:0', 'name': 'NVIDIA H200', 'memory_mb': 150e3}
CPU = {'used': 'cpu', 'name': 'x86_64', 'memory_mb': None}


@pytest.fixture
def add_run(e3relax_code, model):
    """A function that stores a finished run of the code with its report."""
    kind = {name: model.card[name] for name in ('architecture', 'hyperparameters')}

    def add(device: dict, fitted: int | None = None, exit_status: int = 0, **content: Any) -> orm.CalcJobNode:
        run = orm.CalcJobNode(computer=e3relax_code.computer, process_type=E3RelaxCalculation.build_process_type())
        run.base.links.add_incoming(e3relax_code, LinkType.INPUT_CALC, 'code')
        run.store()
        run.set_exit_status(exit_status)
        report = orm.Dict({'device': device, 'dtype': 'float64', 'model': kind, 'max_edges_fitted': fitted, **content})
        report.base.links.add_incoming(run, LinkType.CREATE, 'report')
        report.store()
        return run

    return add


@pytest.fixture
def find(e3relax_code, model):
    def found(**parameters: Any) -> Fitting | None:
        return find_fitting(e3relax_code, model, PredictParameters(**{'dtype': 'float64', **parameters}))

    return found


def test_what_fitted_last_on_the_device_of_the_last_run(add_run, find):
    assert find() is None
    add_run(L4)
    assert find() is None
    add_run(L4, 25_000)
    second = add_run(L4, 12_500)
    add_run(L4)
    assert find() == Fitting(12_500, 'NVIDIA L4', second.pk)
    add_run(H200)
    assert find() is None  # another device now
    add_run(L4)
    assert find() == Fitting(12_500, 'NVIDIA L4', second.pk)
    add_run({**L4, 'memory_mb': 12e3})  # a share of one
    assert find() is None


def test_only_what_is_asked_for_counts(add_run, find):
    gpu = add_run(L4, 20_000)
    cpu = add_run(CPU, 10_000)
    assert find().pk == gpu.pk  # the last one may have fallen back on the processor
    assert find(device='cuda').pk == gpu.pk
    assert find(device='cuda:0').pk == gpu.pk
    assert find(device='cpu').pk == cpu.pk
    assert find(dtype='float32') is None


@pytest.mark.parametrize(
    'run',
    [
        {'model': {'architecture': 'painn', 'hyperparameters': {}}},
        {'model': None},
        {'exit_status': 350},
        {'dtype': 'float32'},
    ],
)
def test_what_is_of_another_kind_does_not(add_run, find, run):
    add_run(L4, 20_000, **run)
    assert find() is None


def test_what_was_long_ago_is_forgotten(add_run, find):
    add_run(L4, 20_000)
    for _ in range(LOOKED_AT - 1):
        add_run(L4)
    assert find() is not None
    add_run(L4)
    assert find() is None


def test_a_run_that_was_restarted_has_it_as_an_extra(add_run, find):
    run = add_run(L4)
    run.base.extras.set('max_edges_fitted', 6_000)
    assert find() == Fitting(6_000, 'NVIDIA L4', run.pk)


@pytest.mark.parametrize(
    ('fitted', 'asked', 'expected'),
    [(20_000, {}, 20_000), (300, {}, SMALLEST_MAX_EDGES), (20_000, {'max_edges': 40_000}, 40_000), (60_000, {}, None)],
)
def test_the_work_chain_begins_with_it(add_run, e3relax_code, model, make_structure, fitted, asked, expected):
    add_run(CPU, fitted)
    inputs = {'code': e3relax_code, 'model': model, 'structures': {'cu': make_structure('Cu')}}
    parameters = {'device': 'cpu', 'dtype': 'float64', **asked}
    runner = get_manager().get_runner()
    process: Any = instantiate_process(runner, E3RelaxBaseWorkChain, predict={**inputs, 'parameters': parameters})
    process.setup()
    assert process.ctx.parameters.get('max_edges') == expected
    assert process.ctx.inputs.parameters.get('max_edges') == expected
    told = [log.message for log in orm.Log.collection.get_logs_for(process.node)]
    assert any(f'at most {expected} edges, which fitted on x86_64' in message for message in told) is (
        not asked and fitted < 60_000
    )
