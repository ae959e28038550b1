import dataclasses

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from aiida_e3relax.common.errors import TrainingError
from aiida_e3relax.crystals.metrics import coordinate_mae, lattice_mae
from aiida_e3relax.crystals.pairs import Pairs, aligned
from aiida_e3relax.gnn.models.losses import LossSettings
from aiida_e3relax.gnn.models.registry import make_model
from aiida_e3relax.gnn.training.augmentation import Augmentation
from aiida_e3relax.gnn.training.batches import BatchOrder, PreparedPairs, times_an_epoch, validation_errors
from aiida_e3relax.gnn.training.processes import TrainingProcesses
from tests.gnn.pairs import made_pairs


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


@pytest.fixture(scope='module')
def filed() -> Pairs:
    """Return pairs whose relaxed crystals are filed turned, shifted, and with atoms in other cells."""
    pairs = made_pairs(copies=3).of_split('val')
    after, turn = pairs.relaxed, Rotation.from_rotvec([0.02, -0.05, 0.04]).as_matrix()
    cells = np.random.default_rng(2).integers(-2, 3, after.positions.shape)
    moved = after.positions + np.einsum('ac,acx->ax', cells, after.cell[after.structure_index]) + [0.3, -0.2, 0.1]
    return dataclasses.replace(pairs, relaxed=after.replace(moved @ turn, after.cell @ turn))


@pytest.mark.parametrize('before', ['filed', 'aligned'])
def test_targets_as_filed_keep_drift_and_rotation(filed, before):
    """Whatever was done to the pairs before; the papers' error (eq. 58) of them is what validation then measures."""
    pairs = filed if before == 'filed' else aligned(filed)
    dummy = make_model('dummy', {})
    as_filed = PreparedPairs(pairs, dummy, torch.device('cpu'), align=False)
    np.testing.assert_allclose(as_filed.target.cell, filed.relaxed.cell, atol=1e-5)
    found = validation_errors(dummy, as_filed, LossSettings('pacd'))
    expected = [measure(filed.unrelaxed, filed.relaxed).mean() for measure in (coordinate_mae, lattice_mae)]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    in_one_frame = validation_errors(dummy, PreparedPairs(pairs, dummy, torch.device('cpu')), LossSettings('pacd'))
    assert (in_one_frame < 0.9 * found).all()


def test_data_sets_count_alike_in_a_balanced_validation(filed):
    dummy, cpu = make_model('dummy', {}), torch.device('cpu')
    source = np.array(['small'] + ['large'] * (len(filed) - 1))
    pairs = dataclasses.replace(filed, source=source)
    parts = [pairs.select(np.flatnonzero(source == name)) for name in ('small', 'large')]
    small, large = (validation_errors(dummy, PreparedPairs(part, dummy, cpu)) for part in parts)
    prepared = PreparedPairs(pairs, dummy, cpu)
    balanced = validation_errors(dummy, prepared, is_balanced=True)
    np.testing.assert_allclose(balanced, (small + large) / 2, rtol=1e-9)
    whole = validation_errors(dummy, prepared)
    np.testing.assert_allclose(whole, (small + (len(pairs) - 1) * large) / len(pairs), rtol=1e-9)
    assert not np.allclose(whole, balanced, rtol=1e-3)


def test_the_displacement_loss_sees_atoms_where_they_are_filed(filed):
    dummy, cpu = make_model('dummy', {}), torch.device('cpu')
    prepared = PreparedPairs(filed, dummy, cpu, align=False, loss='displacement')
    found = validation_errors(dummy, prepared, LossSettings('displacement'))
    distance = np.linalg.norm(filed.relaxed.positions - filed.unrelaxed.positions, axis=1, keepdims=True)
    np.testing.assert_allclose(found[0], filed.unrelaxed.mean_over_atoms(distance).mean(), rtol=1e-5)
    nearest = PreparedPairs(filed, dummy, cpu, align=False, loss='pacd')
    assert found[0] > 2 * validation_errors(dummy, nearest, LossSettings('displacement'))[0]


def test_the_distances_of_deeprelax_lead_to_the_images_that_its_edges_cross(filed):
    model, cpu = make_model('deeprelax', {'features': 8, 'layers': 1}), torch.device('cpu')
    by_loss = [PreparedPairs(filed, model, cpu, align=False, loss=loss).target for loss in ('displacement', 'pacd')]
    assert torch.equal(by_loss[0].fractional, by_loss[1].fractional)


def test_copies_of_pairs_have_the_target_as_filed(filed):
    copied = Augmentation(copies=1).apply(filed, seed=0)
    target = PreparedPairs(copied, make_model('dummy', {}), torch.device('cpu'), align=False).target
    np.testing.assert_allclose(target.cell, np.concatenate([filed.relaxed.cell] * 2), atol=1e-5)


def test_mirrored_targets_are_refused_as_filed_too(filed):
    mirrored = dataclasses.replace(filed, relaxed=filed.relaxed.replace(-filed.relaxed.positions, -filed.relaxed.cell))
    with pytest.raises(ValueError, match='opposite handedness'):
        PreparedPairs(mirrored, make_model('dummy', {}), torch.device('cpu'), align=False)
