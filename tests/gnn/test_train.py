import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from aiida_e3relax.gnn.augmentation import Augmentation
from aiida_e3relax.gnn.checkpoint import load_checkpoint
from aiida_e3relax.gnn.datasets import write_pairs
from aiida_e3relax.gnn.errors import InputError, TrainingError
from aiida_e3relax.gnn.evaluate import evaluate
from aiida_e3relax.gnn.train import train
from aiida_e3relax.gnn.training_settings import TrainingSettings, read_settings
from tests.gnn.pairs import made_pairs

CPU = torch.device('cpu')
SMALL = TrainingSettings(
    hyperparameters={'features': 16, 'layers': 2}, steps=40, batch_size=8, validate_every=10, learning_rate=5e-3
)


def log_of(folder):
    with (folder / 'log.csv').open(newline='') as handle:
        return list(csv.reader(handle))


def test_training_lowers_the_error(tmp_path):
    pairs = made_pairs()
    train(pairs, dataclasses.replace(SMALL, steps=400), tmp_path, CPU)
    rows = evaluate(load_checkpoint(tmp_path / 'best.pt'), pairs.of_split('train'), CPU, with_matches=False)
    model, dummy, _ = (row for row in rows if row['frame'] == 'aligned')
    assert model['volume_mae_A3_mean'] < 0.5 * dummy['volume_mae_A3_mean']
    assert dummy['of'] == 'dummy'


def test_interrupted_run_continues_as_if_it_never_stopped(tmp_path):
    pairs = made_pairs()
    train(pairs, SMALL, tmp_path / 'whole', CPU)
    train(pairs, SMALL, tmp_path / 'parts', CPU, stop_after=20)
    train(pairs, SMALL, tmp_path / 'parts', CPU)
    whole, parts = log_of(tmp_path / 'whole'), log_of(tmp_path / 'parts')
    assert [row[0] for row in whole[1:]] == ['10', '20', '30', '40']
    assert whole == parts


def test_killed_run_continues(tmp_path):
    write_pairs(tmp_path / 'pairs.npz', made_pairs())
    command = [sys.executable, '-m', 'aiida_e3relax.gnn.cli', 'train', str(tmp_path / 'pairs.npz'), '--threads', '1']
    command += [f'--set={name}={value}' for name, value in SMALL.hyperparameters.items()]
    command += ['--set=steps=200', '--set=batch_size=8', '--set=validate_every=20', '--output']
    killed = subprocess.Popen([*command, str(tmp_path / 'killed')])
    deadline = time.monotonic() + 120
    while not (tmp_path / 'killed' / 'last.pt').exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL, 'the run was still going when it was killed'
    subprocess.run([*command, str(tmp_path / 'killed')], check=True)
    subprocess.run([*command, str(tmp_path / 'whole')], check=True)
    assert log_of(tmp_path / 'killed') == log_of(tmp_path / 'whole')


def test_engines_take_the_same_steps(tmp_path):
    settings = dataclasses.replace(SMALL, steps=20, augmentation=Augmentation(copies=1))
    for engine in ('fast', 'reference'):
        train(made_pairs(), dataclasses.replace(settings, engine=engine), tmp_path / engine, CPU)
    fast, reference = (np.array(log_of(tmp_path / e)[1:], dtype=float) for e in ('fast', 'reference'))
    np.testing.assert_allclose(fast, reference, rtol=2e-3)


def test_other_settings_in_the_same_folder_are_refused(tmp_path):
    train(made_pairs(), SMALL, tmp_path, CPU, stop_after=10)
    with pytest.raises(TrainingError, match='other settings'):
        train(made_pairs(), dataclasses.replace(SMALL, learning_rate=1e-3), tmp_path, CPU)


def test_other_data_in_the_same_folder_are_refused(tmp_path):
    train(made_pairs(), SMALL, tmp_path, CPU, stop_after=10)
    with pytest.raises(TrainingError, match='other data'):
        train(made_pairs(copies=7), SMALL, tmp_path, CPU)


def test_loss_that_is_not_finite_names_the_pairs(tmp_path):
    pairs = made_pairs()
    bad = int(np.flatnonzero(pairs.split == 'train')[3])
    cell = pairs.relaxed.cell.copy()
    cell[bad] *= 1e39
    pairs = dataclasses.replace(pairs, relaxed=pairs.relaxed.replace(pairs.relaxed.positions, cell))
    with pytest.raises(TrainingError, match=rf"not finite at step \d+ for \['{bad}'\]"):
        train(pairs, dataclasses.replace(SMALL, batch_size=24), tmp_path, CPU)


def test_settings_from_file_and_changes(tmp_path):
    (tmp_path / 'settings.json').write_text(json.dumps({'steps': 7, 'hyperparameters': {'features': 8}}))
    settings = read_settings(tmp_path / 'settings.json', ['layers=1', 'learning_rate=1e-4'])
    assert (settings.steps, settings.learning_rate) == (7, 1e-4)
    assert settings.hyperparameters == {'features': 8, 'layers': 1}


def test_misspelt_augmentation_gets_a_suggestion():
    with pytest.raises(InputError, match="unknown setting 'copy' of the augmentation: did you mean 'copies'"):
        read_settings(None, ['augmentation={"copy": 2}'])


def test_misspelt_setting_gets_a_suggestion():
    with pytest.raises(InputError, match="unknown setting 'featurs': did you mean 'features'"):
        read_settings(None, ['featurs=8'])


def test_model_without_weights_is_named(tmp_path):
    with pytest.raises(TrainingError, match='dummy has no weights to train'):
        train(made_pairs(), dataclasses.replace(SMALL, architecture='dummy', hyperparameters={}), tmp_path, CPU)
