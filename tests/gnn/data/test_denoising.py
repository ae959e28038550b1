"""Denoising pairs: the way back to real crystals, in their frame, with what is fixed in place."""

import dataclasses

import numpy as np
import pytest
from ase.build import bulk

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.crystals.datasets.pairs_file import read_data_card, read_pairs, write_pairs
from aiida_e3relax.crystals.metrics import matches
from aiida_e3relax.crystals.pairs import Pairs, aligned
from aiida_e3relax.gnn.cli import main
from aiida_e3relax.gnn.data.denoising import Noise, denoising_pairs
from aiida_e3relax.gnn.data.summary import Changes
from tests.gnn.crystals import batch_of
from tests.gnn.pairs import made_pairs


def test_each_real_crystal_of_the_training_split_is_an_end_once():
    pairs = made_pairs()
    made, missing = denoising_pairs(pairs, Noise())
    assert missing == {}
    train = pairs.of_split('train')
    assert len(made) == len(train) // 4  # the same nine crystals, four times
    assert set(made.split) == {'train'}
    assert set(made.source) == set(made.kinds) == {'denoising'}
    assert matches(made.relaxed, pairs.relaxed.select(np.arange(len(made)))).all()


def test_noise_has_its_size_and_neither_drift_nor_rotation():
    made, _ = denoising_pairs(made_pairs(), Noise(0.03, 0.1, copies=40))
    changes = Changes.of(made)
    size = made.unrelaxed.n_atoms
    assert np.abs(changes.strain).mean() == pytest.approx(2 * 0.03, rel=0.1)  # the largest eigenvalue
    expected = 0.1 * np.sqrt(8 / np.pi) * np.sqrt(1 - 1 / size)  # a Maxwell distribution, less the drift
    assert changes.displacement_A.mean() == pytest.approx(expected.mean(), rel=0.1)
    np.testing.assert_allclose(changes.rotation_degrees, 0, atol=1e-4)
    again = aligned(dataclasses.replace(made, filed=None))
    np.testing.assert_allclose(again.relaxed.positions, made.relaxed.positions, atol=1e-9)


def test_the_seed_decides():
    pairs = made_pairs()
    one, same, other = (denoising_pairs(pairs, Noise(seed=seed))[0].unrelaxed.positions for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.01


def test_only_bulk_crystals_that_are_free_are_real_minima():
    pairs = made_pairs().of_split('train')
    pairs = pairs.select(np.arange(9))
    fixed = np.zeros_like(pairs.unrelaxed.positions, dtype=bool)
    fixed[pairs.unrelaxed.offsets[0]] = True
    held = np.arange(9) == 1
    cell = pairs.relaxed.cell.copy()
    cell[4, 2] *= 4  # of hcp: c
    open_ = pairs.relaxed.replace(pairs.relaxed.positions, cell)
    made, left_out = denoising_pairs(dataclasses.replace(pairs, relaxed=open_, fixed=fixed, fixed_cell=held), Noise())
    assert left_out == {'fixed sites, a fixed cell or a vacuum': 3}
    assert made.unrelaxed.labels.tolist() == pairs.unrelaxed.labels[[2, 3, 5, 6, 7, 8]].tolist()
    assert made.fixed is None
    assert made.fixed_cell is None


def test_crystals_of_one_volume_need_not_be_the_same():
    frames = [bulk('Mg', 'hcp', a=3.2, c=5.2), bulk('Mg', 'fcc', a=(4 * 3.2**2 * 5.2 * np.sqrt(3) / 4) ** (1 / 3))]
    frames.append(frames[0] * (2, 1, 1))
    crystals = batch_of(*frames)
    np.testing.assert_allclose(np.ptp(crystals.volumes / crystals.n_atoms), 0, atol=1e-9)
    made, _ = denoising_pairs(Pairs(crystals, crystals, np.full(3, 'train'), np.full(3, 'x')), Noise())
    assert made.unrelaxed.n_atoms.tolist() == [2, 1]


def test_what_a_teacher_relaxed_is_not_real():
    pairs = made_pairs()
    taught = dataclasses.replace(pairs, about={'teacher': np.full(len(pairs), 'emt 3')})
    assert len(denoising_pairs(Pairs.concatenate([taught, pairs]), Noise())[0]) == 9
    with pytest.raises(InputError, match='no pair of the split train that DFT relaxed'):
        denoising_pairs(taught, Noise())


def test_the_command_writes_a_training_file(tmp_path, capsys):
    write_pairs(tmp_path / 'pairs.npz', made_pairs())
    output = tmp_path / 'denoising.npz'
    command = ['denoise', str(tmp_path / 'pairs.npz'), '--output', str(output)]
    assert main([*command, '--copies', '2', '--strain', '0.02']) == 0
    made, card = read_pairs(output), read_data_card(output)
    assert len(made) == 18
    assert len(set(made.unrelaxed.labels.tolist())) == 18
    assert card['summary']['pairs_of_kind'] == {'denoising': {'train': 18, 'val': 0, 'test': 0}}
    assert card['options'] == {'strain': 0.02, 'rattle': 0.2, 'copies': 2, 'seed': 0}
    assert 'denoising: 18 train' in capsys.readouterr().out
    assert main([*command, '--strain', '0.5']) == 3
    assert '--strain 0.5: expected a number from 0 to 0.15' in capsys.readouterr().err
