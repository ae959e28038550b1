import numpy as np
import pytest

from aiida_e3relax.common.errors import TrainingError
from aiida_e3relax.gnn.training.batches import BatchOrder, times_an_epoch
from aiida_e3relax.gnn.training.processes import TrainingProcesses


@pytest.mark.parametrize('balanced', [False, True])
def test_an_epoch_has_every_pair_at_most_once(balanced):
    order = BatchOrder(np.random.default_rng(0).integers(1, 1000, 103), 10, seed=1, balanced=balanced)
    pairs = np.concatenate([order.of(step) for step in range(10)])
    assert len(np.unique(pairs)) == 100
    assert not np.array_equal(pairs, np.concatenate([order.of(step) for step in range(10, 20)]))


@pytest.mark.parametrize('balanced', [False, True])
def test_an_epoch_takes_pairs_of_an_oversampled_set_as_often_as_asked(balanced):
    times = times_an_epoch(np.array(['rare', 'common', 'common', 'rare']), {'rare': 3})
    order = BatchOrder(np.array([5, 2, 3, 4]), 2, seed=1, balanced=balanced, times=times)
    for epoch in range(3):
        pairs = np.concatenate([order.of(4 * epoch + step) for step in range(4)])
        assert np.bincount(pairs).tolist() == [3, 1, 1, 3]


def test_an_unknown_set_to_oversample_is_named():
    with pytest.raises(TrainingError, match="data set 'pnictide': did you mean 'pnictides'"):
        times_an_epoch(np.array(['pnictides', 'substitution']), {'pnictide': 4})


def test_balanced_batches_have_about_as_many_edges():
    edges = np.random.default_rng(0).integers(1, 1000, 1000) ** 2
    spread = {}
    for balanced in (False, True):
        order = BatchOrder(edges, 20, seed=1, balanced=balanced)
        spread[balanced] = np.std([edges[order.of(step)].sum() for step in range(50)])
    assert spread[True] < spread[False] / 5


def test_order_depends_on_seed_and_step_alone():
    edges = np.arange(50)
    forwards = BatchOrder(edges, 7, seed=1, balanced=True)
    one_by_one = [forwards.of(step) for step in range(20)]
    np.testing.assert_array_equal(BatchOrder(edges, 7, seed=1, balanced=True).of(15), one_by_one[15])


def test_processes_share_a_batch_evenly():
    ranked = np.arange(64)
    parts = [TrainingProcesses(rank, 4).share(ranked) for rank in range(4)]
    assert sorted(np.concatenate(parts).tolist()) == ranked.tolist()
    assert {(len(part), part.sum()) for part in parts} == {(16, ranked.sum() / 4)}
