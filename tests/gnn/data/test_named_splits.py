"""Splits with names, such as OC20's: from folders, tables and files, and through training and evaluation."""

import dataclasses
import re

import ase.io
import numpy as np
import pytest
from ase.build import bulk

from aiida_e3relax.common.errors import InputError, TrainingError
from aiida_e3relax.crystals.datasets.pairs_file import read_data_card, read_pairs, write_pairs
from aiida_e3relax.crystals.pairs import is_split, split_names
from aiida_e3relax.gnn.cli import main
from aiida_e3relax.gnn.data.sources.registry import open_source
from aiida_e3relax.gnn.training.validation_split import validation_split
from tests.gnn.pairs import made_pairs

NAMES = ['train', 'val_id', 'val_ood_ads', 'test_ood_cat']


def test_names():
    assert all(map(is_split, [*NAMES, 'val', 'test', 'test_2.0']))
    assert not any(map(is_split, ['', 'validation', 'val_', 'train_2M', 'tests', 'Val', 'val_a b', 'val_id\n']))
    assert split_names(['val_ood_ads', 'val_id', 'other']) == ['train', 'val_id', 'val_ood_ads', 'test']
    assert split_names(['val', 'val_id']) == ['train', 'val', 'val_id', 'test']


def write_relaxation(path, a: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ase.io.write(path, [bulk('Cu', 'fcc', a=a), bulk('Cu', 'fcc', a=3.6)])


def test_folders_of_trajectories_name_the_split(tmp_path):
    for number, name in enumerate(NAMES):
        write_relaxation(tmp_path / 'oc20' / name / f'random{number}.traj', 3.7 + 0.01 * number)
    output = tmp_path / 'pairs.npz'
    assert main(['data', str(tmp_path / 'oc20'), '--output', str(output), '--no-repeats']) == 0
    assert sorted(read_pairs(output).split) == sorted(NAMES)
    assert read_data_card(output)['summary']['pairs_of_split'] == {'oc20': dict.fromkeys([*NAMES], 1)}


def test_tables_of_the_papers_layout_name_the_split(tmp_path):
    (tmp_path / 'CIF').mkdir()
    for name in NAMES:
        (tmp_path / f'{name}.csv').write_text(f'atoms_id\n{name}-1\n')
        for stage in ('unrelaxed', 'relaxed'):
            ase.io.write(tmp_path / 'CIF' / f'{name}-1_{stage}.cif', bulk('Cu', 'fcc', a=3.6))
    (tmp_path / 'test_errors.csv').write_text('model,MAE\n')
    source = open_source(str(tmp_path))
    assert {c.label: c.split for c in source.candidates} == {f'{name}-1': name for name in NAMES}
    (note,) = source.notes
    assert note.startswith('passed over')
    assert 'test_errors.csv' in note
    for name in ('val_id', 'val_ood_ads'):
        (tmp_path / f'{name}.csv').unlink()
    with pytest.raises(InputError, match=r'val\.csv: no such file'):
        open_source(str(tmp_path))


def test_a_table_gives_every_label_its_split(tmp_path, capsys):
    for number in range(4):
        write_relaxation(tmp_path / 'runs' / f'run{number}.traj', 3.7 + 0.01 * number)
    table = tmp_path / 'splits.csv'
    rows = ''.join(f'run{number},{name}\n' for number, name in enumerate(NAMES))
    table.write_text(f'label,split\n{rows}')
    command = ['data', str(tmp_path / 'runs'), '--output', str(tmp_path / 'pairs.npz'), '--no-repeats']
    assert main([*command, '--split', str(table)]) == 0
    pairs = read_pairs(tmp_path / 'pairs.npz')
    assert dict(zip(pairs.unrelaxed.labels.tolist(), pairs.split.tolist(), strict=True)) == {
        f'run{number}': name for number, name in enumerate(NAMES)
    }
    for text, message in (
        ('label,split\nrun0,train\n', 'come without a split'),
        ('label,split\nrun0,training\n', "line 2: expected train, val or test, or a named one .*found 'training'"),
        ('label,split\nrun0,train\nrun0,test\n', 'line 3: .*run0.* is in train already'),
        ('name,split\nrun0,train\n', 'expected the columns label and split'),
        ('label,split\nother,train\n', 'none of its labels'),
    ):
        table.write_text(text)
        capsys.readouterr()
        assert main([*command, '--split', str(table)]) != 0
        assert re.search(message, capsys.readouterr().err)


def test_which_split_is_validated_on():
    assert validation_split({'train', 'val', 'val_id'}, 'val') == 'val'
    assert validation_split({'train', 'val_id', 'test'}, 'val') == 'val_id'
    assert validation_split(NAMES, 'val_ood_ads') == 'val_ood_ads'
    with pytest.raises(TrainingError, match='val_id, val_ood_ads: name one, --set validation=val_id'):
        validation_split(NAMES, 'val')
    with pytest.raises(TrainingError, match="no pair of the split 'val_odd_ads': did you mean 'val_ood_ads'"):
        validation_split(NAMES, 'val_odd_ads')
    with pytest.raises(TrainingError, match="hold 0 pairs of the split 'val'"):
        validation_split(['train'], 'val')


def test_training_and_evaluation_by_name(tmp_path, capsys):
    pairs = made_pairs(3)
    split = np.where(pairs.split == 'val', 'val_id', np.where(pairs.split == 'test', 'val_ood_ads', 'train'))
    write_pairs(tmp_path / 'pairs.npz', dataclasses.replace(pairs, split=split))
    config = tmp_path / 'run.yaml'
    config.write_text(
        f'data: [{tmp_path / "pairs.npz"}]\noutput: {tmp_path / "run"}\nhyperparameters: {{features: 8, layers: 1}}\n'
        'steps: 2\nbatch_size: 4\nvalidate_every: 2\n'
    )
    assert main(['train', str(config), '--device', 'cpu']) != 0
    assert 'several splits to validate on, val_id, val_ood_ads' in capsys.readouterr().err
    assert main(['train', str(config), '--device', 'cpu', '--set', 'validation=val_ood_ads']) == 0
    assert 'validation on the split val_ood_ads' in capsys.readouterr().err
    arguments = ['evaluate', str(tmp_path / 'pairs.npz'), '--model', str(tmp_path / 'run' / 'best.pt')]
    arguments += ['--no-match', '--device', 'cpu', '--split']
    assert main([*arguments, 'val_id']) == 0
    assert f'{len(pairs.of_split("val")):>6}' in capsys.readouterr().out
    assert main([*arguments, 'test']) != 0
    assert "no pair of the split 'test'; its splits are train, val_id, val_ood_ads" in capsys.readouterr().err
