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


@pytest.mark.parametrize('threshold', [0.0, 0.02])
def test_plateaus_reduce_the_rate_as_in_torch(threshold):
    settings = TrainingSettings(
        schedule='plateau',
        learning_rate=1.0,
        plateau_patience=2,
        plateau_threshold=threshold,
        monitor='coordinates',
    )
    ours = Schedule(settings)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.8, patience=2, threshold=threshold)
    for error in 0.7 + 0.3 * np.random.default_rng(3).uniform(size=60):  # some better by less than the threshold
        ours.judge(error, 0.0)
        theirs.step(error)
        assert ours.learning_rate(0) == pytest.approx(optimizer.param_groups[0]['lr'])
    assert ours.reductions > 3


def test_the_start_counts_for_the_best_and_not_for_the_early_stop():
    schedule = Schedule(TrainingSettings(early_stop=2))
    assert schedule.judge_start(1.0, 0.0)
    assert schedule.describe_best() == 'best validation: loss 1.0000 A, that of the start'
    assert [schedule.judge(error, 0.0) for error in (3.0, 2.0, 1.5)] == [False] * 3
    assert not schedule.finished, 'each step was better than the one before'
    assert schedule.judge(0.5, 0.0)
    again = Schedule(schedule.settings)
    again.restore(schedule.state())
    assert again == schedule
    assert again.describe_best() == 'best validation: loss 0.5000 A (1.0000 A at the start)'


@pytest.mark.parametrize('error', [float('nan'), float('inf')])
def test_any_step_is_better_than_a_start_whose_errors_are_not_finite(error):
    schedule = Schedule(TrainingSettings())
    assert not schedule.judge_start(error, 0.1)
    assert schedule.describe_best() == 'best validation: loss none yet'
    assert not schedule.judge(error, 0.1)
    assert schedule.judge(2.0, 0.0)
    assert schedule.describe_best() == 'best validation: loss 2.0000 A'


def test_state_of_an_earlier_release_goes_on():
    settings = TrainingSettings(schedule='plateau', plateau_patience=0)
    whole, later = Schedule(settings), Schedule(settings)
    for error in (3.0, 2.0, 2.5):
        whole.judge(error, 0.0)
    state = whole.state()
    del state['plateau_best']
    later.restore(state)
    assert later == whole


def test_running_average_warms_up():
    """As it always did, and as in the code of E3Relax-H2: (1 + u) / (W + u) for W updates, then the whole decay."""
    decays = {
        warmup: [Schedule(TrainingSettings(ema_warmup=warmup)).ema_decay(u) for u in (1, 2, 4000, 4001, 9000)]
        for warmup in (None, 4000, 0)
    }
    assert decays[None] == [2 / 11, 3 / 12, 4001 / 4010, 4002 / 4011, 0.999]
    assert decays[4000] == [2 / 4001, 3 / 4002, 4001 / 8000, 0.999, 0.999]
    assert decays[0] == [0.999] * 5


def test_early_stop_counts_validations_without_a_better_one():
    schedule = Schedule(TrainingSettings(early_stop=2, monitor='cell'))
    finished = []
    for cell in (1.0, 2.0, 0.5, 0.6, 0.7):
        schedule.judge(0.0, cell)
        finished.append(schedule.finished)
    assert finished == [False, False, False, False, True]
