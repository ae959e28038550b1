"""Outputs of ``e3relax`` never replace what a command was given, and are looked at before anything is computed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.io import write

from aiida_e3relax.crystals.datasets.pairs_file import write_pairs
from aiida_e3relax.gnn.checkpoints.checkpoint import save_checkpoint
from aiida_e3relax.gnn.checkpoints.model_card import write_card
from aiida_e3relax.gnn.cli import main
from aiida_e3relax.gnn.models.registry import make_model
from aiida_e3relax.gnn.training.run import FILES
from tests.gnn.crystals import rattled
from tests.gnn.pairs import made_pairs

SIZES = {'features': 8, 'layers': 1}
CONFIG = '{data: pairs.npz, output: run, steps: 2, batch_size: 2, hyperparameters: {features: 8, layers: 1}}'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with pairs, two checkpoints, one of them with a card, and a configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('aiida_e3relax.gnn.training.plot.plot_log', lambda log, path: path.write_bytes(b''))
    write_pairs(tmp_path / 'pairs.npz', made_pairs())
    for seed, name in enumerate(('one.pt', 'two.pt')):
        torch.manual_seed(seed)
        save_checkpoint(
            tmp_path / name,
            'e3relax-h2',
            make_model('e3relax-h2', SIZES),
            np.unique(made_pairs().unrelaxed.numbers).tolist(),
            {},
        )
    write_card(tmp_path / 'two.pt', {'name': 'two'})
    (tmp_path / 'run.yaml').write_text(CONFIG)
    (tmp_path / 'never.npz').write_text('NaCl\n')
    (tmp_path / 'splits.rejected.csv').write_text('label,split\n')
    os.link(tmp_path / 'pairs.npz', tmp_path / 'hard.csv')
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


EVALUATE = 'evaluate pairs.npz --split train --no-match --device cpu --model one.pt'


@pytest.mark.parametrize(
    'words',
    [
        f'{EVALUATE} --csv pairs.npz',
        f'{EVALUATE} --json one.pt',
        f'{EVALUATE} --csv hard.csv',
        'train run.yaml --report pairs.npz',
        'train run.yaml --report run.yaml',
        'finetune one.pt run.yaml --report pairs.npz --device cpu',
        'finetune one.pt run.yaml --report one.pt --device cpu',
        'data pairs.npz --output pairs.npz --min-atoms 5',
        'data two.card.json::pairs.npz --output two.npz',
        'data pairs.npz --output new.npz --split splits.csv --summary-png pairs.npz',
        'data pairs.npz --output splits.npz --split splits.rejected.csv',
        'data pairs.npz --output two.npz',
        'denoise pairs.npz --output pairs.npz',
        'denoise pairs.npz --output two.npz',
        'distil pairs.npz --output pairs.npz --list --count 2',
        'distil pairs.npz --output never.npz --never never.npz --list --count 2',
        'ensemble one.pt two.pt --output two.pt',
        'ensemble one.pt --calibrate pairs.npz --output ./one.pt',
        'import-checkpoint one.pt --output one.pt',
    ],
)
def test_nothing_that_a_command_is_given_is_lost(words, folder, capsys):
    before = contents(folder)
    assert main(words.split()) == 3
    assert 'would be lost: name another file' in capsys.readouterr().err
    assert contents(folder) == before


@pytest.mark.parametrize(
    ('words', 'message', 'status'),
    [
        (f'{EVALUATE} --json same --csv ./same', '--csv same: is same, which would be lost', 3),
        (f'{EVALUATE} --json same.png --figure same.png', '--figure same.png: is same.png', 3),
        (f'{EVALUATE} --json .', '--json .: expected a file, found a folder', 3),
        (f'{EVALUATE} --csv /proc/table.csv', '/proc/table.csv: cannot be written', 9),
        ('data pairs.npz --output new.npz', 'new.card.json: expected a file, found a folder', 3),
        ('denoise pairs.npz --output new.npz', 'new.card.json: expected a file, found a folder', 3),
        ('ensemble one.pt two.pt --output new.pt', 'new.card.json: expected a file, found a folder', 3),
        ('train run.yaml --report nowhere/report.json', 'the folder nowhere does not exist', 3),
    ],
)
def test_outputs_that_cannot_be_are_told_before_anything_is_computed(words, message, status, folder, capsys):
    (folder / 'new.card.json').mkdir()
    names = {path.name for path in folder.iterdir()}
    assert main(words.split()) == status
    told = capsys.readouterr()
    assert message in told.err
    assert told.out == ''
    assert {path.name for path in folder.iterdir()} == names


def test_a_report_replaces_an_earlier_one_and_nothing_else(folder):
    (folder / 'report.json').touch()
    for _ in range(2):
        assert main(['train', 'run.yaml', '--report', 'report.json', '--device', 'cpu']) == 0
    assert '"program": "e3relax"' in (folder / 'report.json').read_text()
    assert not list(folder.glob('*.partial'))


def test_a_run_never_writes_its_files_over_what_it_reads(folder, capsys):
    assert main(['train', 'run.yaml', '--device', 'cpu']) == 0
    run = folder / 'run'
    assert {path.name for path in run.iterdir()} - {'.training.lock'} == set(FILES)
    for words, given in (
        ('finetune run/best.pt run.yaml --set hyperparameters={}', run / 'best.pt'),
        ('train run/settings.json', run / 'settings.json'),
        ('train run.yaml --set data=run/log.csv', run / 'log.csv'),
    ):
        if given.suffix == '.json':
            shutil.copy(folder / 'run.yaml', given)
        before = given.read_bytes()
        capsys.readouterr()
        assert main([*words.split(), '--device', 'cpu']) == 3
        assert 'the run in run writes a file of its own there' in capsys.readouterr().err
        assert given.read_bytes() == before


def test_suffixes_are_taken_in_any_case(folder):
    write(folder / 'in.extxyz', rattled()[0])
    words = ['predict', 'in.extxyz', '--model', 'one.pt', '--output', 'OUT.NPZ', '--layers', '--device', 'cpu']
    assert main(words) == 0
    assert np.load(folder / 'OUT.NPZ')['status'].tolist() == ['ok']
    assert (folder / 'OUT.layers.npz').is_file()
    assert main(['predict', 'OUT.NPZ', *words[2:5], 'again.npz', '--device', 'cpu']) == 0
    assert np.load(folder / 'again.npz')['labels'].tolist() == np.load(folder / 'OUT.NPZ')['labels'].tolist()


def test_texts_go_to_devices_pipes_and_where_links_lead(folder):
    target, link = folder / 'target.json', folder / 'link.json'
    target.write_text('old')
    link.symlink_to(target)
    assert main([*EVALUATE.split(), '--json', 'link.json', '--csv', '/dev/null']) == 0
    assert link.is_symlink()
    assert 'rows' in json.loads(target.read_text())
    assert main(['train', 'run.yaml', '--report', '/dev/null', '--device', 'cpu']) == 0
    assert Path('/dev/null').is_char_device()


@pytest.mark.parametrize(('name', 'needed'), [('a.pwi', 'the pseudopotentials'), ('a.xtl', 'the energy')])
def test_formats_that_hold_more_than_a_crystal_are_refused(name, needed, folder, capsys):
    write(folder / 'in.extxyz', rattled()[0])
    assert main(['predict', 'in.extxyz', '--model', 'one.pt', '--output', name, '--device', 'cpu']) == 3
    told = capsys.readouterr().err
    assert f'needs {needed}' in told
    assert 'which no crystal tells; use .cif, .vasp or .extxyz' in told
    assert not (folder / name).exists()


def test_a_reader_that_has_read_enough_is_no_error():
    """As behind `| head`: nothing is told, and the exit status is that of any program there."""
    read, write_end = os.pipe()
    os.close(read)
    command = [sys.executable, '-c', 'from aiida_e3relax.gnn.cli import main; raise SystemExit(main(["potentials"]))']
    done = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (141, '')
