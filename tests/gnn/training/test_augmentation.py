import numpy as np
from ase.build import mx2

from aiida_e3relax.crystals.metrics import cell_shape_deviation, coordinate_mae
from aiida_e3relax.crystals.pairs import Pairs, aligned
from aiida_e3relax.gnn.training.augmentation import Augmentation
from tests.gnn.crystals import batch_of
from tests.gnn.pairs import made_pairs


def test_copies_end_in_the_same_crystal():
    pairs = made_pairs()
    more = Augmentation(copies=2).apply(pairs, seed=3)
    assert len(more) == 3 * len(pairs)
    copies = more.select(np.arange(len(pairs), 2 * len(pairs)))
    assert (copies.unrelaxed.labels == pairs.unrelaxed.labels).all()
    np.testing.assert_allclose(cell_shape_deviation(copies.relaxed, pairs.relaxed), 0, atol=1e-9)
    difference = copies.relaxed.fractional() - pairs.relaxed.fractional()
    rigid = difference - np.repeat(difference[copies.relaxed.offsets[:-1]], copies.relaxed.n_atoms, axis=0)
    np.testing.assert_allclose(rigid - np.round(rigid), 0, atol=1e-9)


def test_copies_start_elsewhere_and_stay_aligned():
    pairs = made_pairs()
    more = Augmentation(copies=1).apply(pairs, seed=3)
    copies = more.select(np.arange(len(pairs), len(more)))
    moved = coordinate_mae(copies.unrelaxed, aligned(pairs).unrelaxed)
    assert (moved > 1e-3).all()
    deformation = np.linalg.inv(copies.unrelaxed.cell) @ copies.relaxed.cell
    np.testing.assert_allclose(deformation, np.swapaxes(deformation, 1, 2), atol=1e-9)


def test_without_noise_copies_lie_on_the_way():
    pairs = made_pairs()
    more = Augmentation(copies=1, path=1.0, strain=0.0, rattle=0.0).apply(pairs, seed=3)
    start, copy = more.select(np.arange(len(pairs))), more.select(np.arange(len(pairs), len(more)))
    before, between, after = start.unrelaxed.volumes, copy.unrelaxed.volumes, start.relaxed.volumes
    assert ((between - before) * (after - between) > 0).all()


def test_seed_decides():
    pairs = made_pairs()
    first, again, other = (Augmentation(copies=1).apply(pairs, seed).unrelaxed.positions for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_copies_of_layers_keep_their_vacuum():
    layers = batch_of(mx2('MoS2', vacuum=8.0), mx2('WS2', a=3.2, vacuum=9.0))
    about = {'moves': np.full(2, 'in-plane')}
    pairs = Pairs(layers, layers, np.full(2, 'train'), np.full(2, 'x'), about=about)
    copies = Augmentation(copies=1, strain=0.05).apply(pairs, seed=3).select(np.array([2, 3]))
    np.testing.assert_allclose(copies.unrelaxed.cell[:, 2], layers.cell[:, 2], atol=1e-9)
    assert (np.abs(copies.unrelaxed.cell[:, :2] - layers.cell[:, :2]).max(axis=(1, 2)) > 0.01).all()
