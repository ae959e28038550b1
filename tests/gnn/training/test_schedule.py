import numpy as np
import pytest
import torch

from aiida_e3relax.gnn.training.schedule import Schedule
from aiida_e3relax.gnn.training.settings import TrainingSettings


def test_one_cycle_rises_and_falls():
    schedule = Schedule(TrainingSettings(steps=1000, learning_rate=0.1, warmup_fraction=0.1))
    rates = [schedule.learning_rate(step) for step in range(1001)]
    assert np.argmax(rates) in (99, 100)
    assert rates[99] == pytest.approx(0.1)
    assert rates[0] == pytest.approx(0.001)
    assert rates[-1] == pytest.approx(0)


def test_plateaus_reduce_the_rate_as_in_torch():
    settings = TrainingSettings(schedule='plateau', learning_rate=1.0, plateau_patience=2, monitor='coordinates')
    ours = Schedule(settings)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.8, patience=2, threshold=0.0)
    for error in np.random.default_rng(3).uniform(size=60):
        ours.judge(error, 0.0)
        theirs.step(error)
        assert ours.learning_rate(0) == pytest.approx(optimizer.param_groups[0]['lr'])
    assert ours.reductions > 3


def test_early_stop_counts_validations_without_a_better_one():
    schedule = Schedule(TrainingSettings(early_stop=2, monitor='cell'))
    finished = []
    for cell in (1.0, 2.0, 0.5, 0.6, 0.7):
        schedule.judge(0.0, cell)
        finished.append(schedule.finished)
    assert finished == [False, False, False, False, True]
