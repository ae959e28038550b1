import dataclasses
import json

import numpy as np

from aiida_e3relax.crystals.datasets.pairs_file import read_pairs, write_pairs
from aiida_e3relax.crystals.pairs import Pairs, aligned
from aiida_e3relax.gnn.checkpoints.model_card import read_card
from aiida_e3relax.gnn.cli import main
from aiida_e3relax.gnn.training.leaks import find_leaks, pair_digests
from tests.gnn.pairs import made_pairs


def renamed(pairs, split):
    """Return the pairs as another file would have them: other names, one split, other noise in their last digits."""
    names = np.char.add('again-', pairs.unrelaxed.labels)
    before, after = (
        dataclasses.replace(crystals.replace(crystals.positions + 1e-9, crystals.cell - 1e-9), labels=names)
        for crystals in (pairs.unrelaxed, pairs.relaxed)
    )
    return Pairs(before, after, np.full(len(pairs), split), np.full(len(pairs), 'another file'))


def test_pairs_are_the_same_by_their_numbers_alone():
    pairs = made_pairs()
    assert find_leaks(pairs, 'val').facts() == {'validation_pairs_in_train': 0, 'repeated_training_pairs': 0}
    assert find_leaks(pairs, 'val').describe() is None
    some = pairs.of_split('train').select(np.arange(2, 6))
    found = find_leaks(Pairs.concatenate([pairs, renamed(some, 'val'), renamed(some, 'train')]), 'val')
    assert found.facts() == {'validation_pairs_in_train': 4, 'repeated_training_pairs': 4}
    assert 'warning: 4 of 13 pairs to validate on are trained on, too' in found.describe()
    assert '4 of 40 pairs to train on repeat another one' in found.describe()
    np.testing.assert_array_equal(pair_digests(aligned(pairs)), pair_digests(pairs), 'as filed')


def test_another_start_end_or_species_is_another_pair():
    pairs = made_pairs()
    moved = pairs.unrelaxed.replace(pairs.unrelaxed.positions + 0.01, pairs.unrelaxed.cell)
    swapped = dataclasses.replace(pairs.unrelaxed, numbers=pairs.unrelaxed.numbers + 1)
    for changes in ({'unrelaxed': moved}, {'relaxed': pairs.unrelaxed}, {'unrelaxed': swapped}):
        assert not np.isin(pair_digests(dataclasses.replace(pairs, **changes)), pair_digests(pairs)).any()


def test_a_pair_of_one_file_that_is_validated_on_in_another_is_told(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pairs = made_pairs()
    write_pairs('a.npz', pairs)
    write_pairs('b.npz', renamed(pairs.of_split('train').select(np.arange(5)), 'val'))
    config = {'data': ['a.npz', 'b.npz'], 'steps': 1, 'batch_size': 4, 'hyperparameters': {'features': 8, 'layers': 1}}
    (tmp_path / 'run.json').write_text(json.dumps(config))
    assert main(['train', 'run.json', '--set=output=run', '--report', 'report.json', '--device', 'cpu']) == 0
    told = capsys.readouterr().err
    assert 'warning: 5 of 14 pairs to validate on are trained on, too' in told
    assert '--drop-leaks' in told
    assert json.loads((tmp_path / 'report.json').read_text())['validation_pairs_in_train'] == 5
    assert read_card(tmp_path / 'run' / 'best.pt')['training']['validation_pairs_in_train'] == 5
    assert main(['train', 'run.json', '--set=output=clean', '--set=data=a.npz', '--device', 'cpu']) == 0
    assert 'warning' not in capsys.readouterr().err
    assert 'validation_pairs_in_train' not in read_card(tmp_path / 'clean' / 'best.pt')['training']


def test_the_advice_leaves_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pairs = made_pairs()
    write_pairs('a.npz', pairs.of_split('train'))
    write_pairs('b.npz', renamed(pairs.of_split('train').select(np.arange(5)), 'val'))
    assert main(['data', 'a.npz', 'b.npz', '--output', 'new.npz', '--drop-leaks', '--drop-duplicates']) == 0
    new = read_pairs('new.npz')
    assert find_leaks(new, 'val').describe() is None
    assert len(new.of_split('val')) == 5
