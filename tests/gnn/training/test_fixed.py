"""Training on slabs: what is fixed stays fixed in targets, copies and batches, and the error of the rest goes down."""

import dataclasses
import json

import numpy as np
import torch

from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.gnn.models.losses import LossSettings
from aiida_e3relax.gnn.models.registry import make_model
from aiida_e3relax.gnn.training.augmentation import Augmentation
from aiida_e3relax.gnn.training.batches import PreparedPairs, validation_errors
from aiida_e3relax.gnn.training.run import train
from aiida_e3relax.gnn.training.settings import TrainingSettings
from aiida_e3relax.gnn.training.targets import symmetrised_targets
from tests.gnn.pairs import made_pairs
from tests.gnn.slabs import made_slabs

CPU = torch.device('cpu')


def check_held(pairs: Pairs) -> None:
    moved = pairs.relaxed.fractional() - pairs.unrelaxed.fractional()
    np.testing.assert_allclose(moved[pairs.fixed], 0, atol=1e-12)
    assert (pairs.relaxed.cell == pairs.unrelaxed.cell)[pairs.fixed_cell].all()


def test_perturbed_copies_keep_what_is_fixed():
    slabs = made_slabs()
    copies = Augmentation(copies=2, strain=0.05, rattle=0.1).apply(slabs, seed=1)
    check_held(copies)
    start = copies.unrelaxed.select(np.arange(8, 16))
    assert (start.cell == slabs.unrelaxed.cell).all()
    moved = np.abs(start.positions - slabs.unrelaxed.positions)
    assert moved[slabs.fixed].max() < 1e-12
    assert moved[~slabs.fixed].min() > 0


def test_symmetric_targets_keep_what_is_fixed():
    """Without the masks a slab of one element has a mirror plane in the middle, which maps fixed atoms on free ones."""
    slabs = made_slabs()
    before, after = (dataclasses.replace(c, numbers=np.full(32, 29)) for c in (slabs.unrelaxed, slabs.relaxed))
    slabs = dataclasses.replace(slabs, unrelaxed=before, relaxed=after)
    found = symmetrised_targets(slabs, shows_progress=False)
    check_held(found)
    np.testing.assert_allclose(found.relaxed.positions, slabs.relaxed.positions, atol=1e-6)
    free = symmetrised_targets(dataclasses.replace(slabs, fixed=None, fixed_cell=None), shows_progress=False)
    assert np.abs(free.relaxed.positions - slabs.relaxed.positions).max() > 0.02


def test_batches_have_masks_and_targets_that_fit_them_to_the_last_digit():
    pairs = Pairs.concatenate([made_pairs(3), made_slabs()])
    for align in (True, False):
        batch, target = PreparedPairs(pairs, make_model('dummy', {}), CPU, align).select(np.array([30, 2, 28]))
        assert batch.fixed_cell.tolist() == [True, False, True]
        assert batch.fixed.sum() == 12
        assert torch.equal(target.fractional[batch.fixed], batch.fractional[batch.fixed])
        assert torch.equal(target.cell[0], batch.cell[0])
    assert PreparedPairs(made_pairs(3), make_model('dummy', {}), CPU).select(np.array([1]))[0].fixed is None


def test_training_lowers_the_error_of_the_atoms_that_move(tmp_path):
    slabs = made_slabs(10)
    settings = TrainingSettings(
        hyperparameters={'features': 8, 'layers': 1, 'max_neighbours': 12},
        steps=40,
        batch_size=7,
        validate_every=40,
        learning_rate=3e-2,
        ema_decay=0.9,
    )
    train(slabs, settings, tmp_path, CPU)
    training = json.loads((tmp_path / 'best.card.json').read_text())['training']
    assert training['validation_cell_A'] == 0
    dummy = PreparedPairs(slabs.of_split('val'), make_model('dummy', {}), CPU)
    before = float(validation_errors(make_model('dummy', {}), dummy, LossSettings())[0])
    moves = np.abs(slabs.relaxed.positions - slabs.unrelaxed.positions).reshape(10, 4, 3)[-2:, 2:]
    np.testing.assert_allclose(before, moves.mean(), rtol=1e-5)
    assert training['validation_coordinates_A'] < 0.5 * before
