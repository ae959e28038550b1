import re
from pathlib import Path

import pytest
import torch

from aiida_e3relax.gnn.engine import native
from aiida_e3relax.gnn.engine.accelerate import accelerate
from aiida_e3relax.gnn.engine.fast_layers import FastMessagePassing, FastPublishedMessagePassing
from aiida_e3relax.gnn.experiments.timing import REPEATS, has_kernels, inference_times
from aiida_e3relax.gnn.models.dummy import Dummy
from aiida_e3relax.gnn.models.registry import MODELS
from tests.gnn.crystals import batch_of, rattled
from tests.gnn.networks import random_network

CPU = torch.device('cpu')


@pytest.mark.parametrize('batch_size', [1, 7, 80])
def test_times_of_any_batch(batch_size):
    times = inference_times(random_network('painn').float(), batch_of(*rattled()), batch_size, CPU)
    assert times['graph'] > 0
    assert times['forward'] > 0


class Full(Dummy):
    def forward(self, batch):
        if len(batch.n_atoms) > 8:
            raise torch.OutOfMemoryError('CUDA out of memory')
        return super().forward(batch)


def test_batch_that_does_not_fit_has_no_time():
    model, crystals = Full(Dummy.Hyperparameters()), batch_of(*rattled())
    assert inference_times(model, crystals, 8, CPU)
    assert inference_times(model, crystals, 9, CPU) is None


class Counted(Dummy):
    """Notes the atoms of every batch."""

    def __init__(self, hyperparameters):
        super().__init__(hyperparameters)
        self.batches = []

    def forward(self, batch):
        self.batches.append(batch.numbers.tolist())
        return super().forward(batch)


def test_each_batch_is_repeated_before_the_next():
    """So that a graph that was captured of it is replayed, however many shapes there are."""
    model = Counted(Dummy.Hyperparameters())
    assert inference_times(model, batch_of(*rattled()), 16, CPU)
    assert len(model.batches) == 4 * (REPEATS + 2)
    groups = [model.batches[i : i + REPEATS + 2] for i in range(0, len(model.batches), REPEATS + 2)]
    assert all(batch == group[0] for group in groups for batch in group)
    assert groups[0][0] != groups[1][0]


def test_model_is_timed_on_the_engine_that_it_has():
    plain = random_network('painn').float()
    inference_times(plain, batch_of(*rattled()), 64, CPU)
    assert not has_kernels(plain, CPU)
    assert type(plain) is type(random_network('painn'))
    assert not any(type(module).__name__.startswith('Fast') for module in plain.modules())


def test_the_documentation_names_the_models_with_kernels():
    """Those of the registry whose layers the engine has faster classes for; the published forms on the CPU alone."""
    named: dict[bool, list[str]] = {True: [], False: []}
    published = []
    for name in MODELS:
        if name in ('dummy', 'ensemble'):
            continue
        modules = [type(module) for module in accelerate(random_network(name)).modules()]
        has = any(issubclass(kind, FastMessagePassing | FastPublishedMessagePassing) for kind in modules)
        named[has].append(f'`{name}`')
        if any(issubclass(kind, FastPublishedMessagePassing) for kind in modules):
            published.append(f'`{name}`')
    text = ' '.join((Path(__file__).parents[3] / 'docs/experiments.md').read_text(encoding='utf-8').split())
    (told,) = re.findall(r'kernels of their own: (.*?); (.*?) have none', text)
    assert [sorted(re.findall('`.*?`', part)) for part in told] == [sorted(named[True]), sorted(named[False])]
    on_cpu_alone = told[0].partition('on a CPU')[2]
    assert sorted(re.findall('`.*?`', on_cpu_alone)) == sorted(published)


@pytest.mark.skipif(not native.usable(torch.zeros(1)), reason='the kernels of the CPU are not built')
def test_kernels_are_those_of_the_fast_engine():
    assert has_kernels(accelerate(random_network('painn').float()), CPU)
    assert has_kernels(accelerate(random_network('e3relax-published').float()), CPU)
    assert not has_kernels(accelerate(random_network('egnn').float()), CPU)
