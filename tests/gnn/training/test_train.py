import csv
import dataclasses
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import nn

from aiida_e3relax.common.errors import InputError, TrainingError
from aiida_e3relax.common.file_lock import file_lock
from aiida_e3relax.crystals.datasets.pairs_file import write_pairs
from aiida_e3relax.gnn.checkpoints.checkpoint import load_checkpoint, load_content, save_atomically
from aiida_e3relax.gnn.cli import main
from aiida_e3relax.gnn.evaluation.evaluate import evaluate
from aiida_e3relax.gnn.models.painn import PaiNN
from aiida_e3relax.gnn.models.registry import MODELS
from aiida_e3relax.gnn.training.augmentation import Augmentation
from aiida_e3relax.gnn.training.batches import validation_errors
from aiida_e3relax.gnn.training.run import TrainingRun, train
from aiida_e3relax.gnn.training.settings import TrainingSettings
from aiida_e3relax.gnn.training.subset import with_training_share
from tests.gnn.pairs import made_pairs

CPU = torch.device('cpu')
SMALL = TrainingSettings(
    hyperparameters={'features': 16, 'layers': 2}, steps=20, batch_size=8, validate_every=10, learning_rate=5e-3
)


def log_of(folder):
    with (folder / 'log.csv').open(newline='') as handle:
        return list(csv.reader(handle))


def test_training_lowers_the_error(tmp_path):
    pairs = made_pairs()
    train(pairs, dataclasses.replace(SMALL, steps=80, validate_every=80), tmp_path, CPU)
    rows = evaluate(load_checkpoint(tmp_path / 'best.pt'), pairs.of_split('train'), CPU, with_matches=False)
    model, dummy, _ = (row for row in rows if row['frame'] == 'aligned')
    assert model['volume_mae_A3_mean'] < 0.5 * dummy['volume_mae_A3_mean']
    assert dummy['of'] == 'dummy'


PLATEAUS = dataclasses.replace(  # without averaging, many a validation is worse than the one before
    SMALL,
    steps=30,
    validate_every=3,
    schedule='plateau',
    plateau_patience=0,
    early_stop=8,
    learning_rate=0.03,
    ema_decay=0.0,
    amsgrad=True,
    balanced_batches=True,
    loss='pacd',
    layer_weights=[0.5, 1.0],
    align_targets=False,
    plateau_threshold=0.01,
)


@pytest.mark.parametrize(
    'settings',
    [SMALL, pytest.param(PLATEAUS, marks=pytest.mark.slow)],
    ids=['one-cycle', 'plateau'],
)
def test_interrupted_run_continues_as_if_it_never_stopped(tmp_path, settings):
    pairs = made_pairs()
    train(pairs, settings, tmp_path / 'whole', CPU)
    for step in (7, 19):
        train(pairs, settings, tmp_path / 'parts', CPU, stop_after=step)
    reductions = load_content(tmp_path / 'parts' / 'last.pt')['schedule']['reductions']
    assert (reductions > 0) == (settings is PLATEAUS)
    train(pairs, settings, tmp_path / 'parts', CPU)
    assert log_of(tmp_path / 'whole') == log_of(tmp_path / 'parts')
    ends = [load_content(tmp_path / part / 'last.pt') for part in ('whole', 'parts')]
    assert ends[0]['schedule'] == ends[1]['schedule']
    assert all(torch.equal(ends[0]['model'][name], tensor) for name, tensor in ends[1]['model'].items())


def test_run_of_an_earlier_release_continues(tmp_path):
    train(made_pairs(), SMALL, tmp_path / 'run', CPU, stop_after=10)
    earlier = {'architecture', 'hyperparameters', 'steps', 'batch_size', 'learning_rate', 'warmup_fraction'}
    earlier |= {'weight_decay', 'gradient_clip', 'cell_weight', 'ema_decay', 'validate_every', 'seed'}
    stated = {name: value for name, value in dataclasses.asdict(SMALL).items() if name in earlier}
    (tmp_path / 'run' / 'settings.json').write_text(json.dumps(stated))
    state = load_content(tmp_path / 'run' / 'last.pt')
    state['best'] = state.pop('schedule')['best']
    del state['tuned_from']
    save_atomically(tmp_path / 'run' / 'last.pt', state)
    train(made_pairs(), SMALL, tmp_path / 'run', CPU)
    train(made_pairs(), SMALL, tmp_path / 'whole', CPU)
    assert log_of(tmp_path / 'run') == log_of(tmp_path / 'whole')


def test_run_of_an_earlier_release_in_another_frame_is_refused(tmp_path):
    settings = dataclasses.replace(SMALL, architecture='painn', hyperparameters={'features': 8, 'layers': 1})
    train(made_pairs(), settings, tmp_path, CPU, stop_after=10)
    assert load_checkpoint(tmp_path / 'best.pt').training['frame'] == 'standard'
    train(made_pairs(), settings, tmp_path, CPU, stop_after=12)
    state = load_content(tmp_path / 'last.pt')
    del state['frame']
    save_atomically(tmp_path / 'last.pt', state)
    best = load_content(tmp_path / 'best.pt')
    del best['training']['frame']
    save_atomically(tmp_path / 'earlier.pt', best)
    with pytest.warns(UserWarning, match=r'earlier\.pt: an earlier release trained this model in the frame'):
        load_checkpoint(tmp_path / 'earlier.pt')
    with pytest.raises(TrainingError, match='trained painn in another frame than it predicts in'):
        train(made_pairs(), settings, tmp_path, CPU)


def test_settings_of_the_loss_change_the_steps(tmp_path):
    changes = {'loss': 'pacd', 'layer_weights': 'last', 'align_targets': False, 'ema_warmup': 15}
    pairs, turn = made_pairs(), Rotation.from_rotvec([0.1, 0.2, -0.1]).as_matrix()
    pairs = dataclasses.replace(
        pairs, relaxed=pairs.relaxed.replace(pairs.relaxed.positions @ turn, pairs.relaxed.cell @ turn)
    )

    def after_two_steps(**changes: object) -> tuple[list[float], list[float], list[float]]:
        """Return the errors, a part of the weights, and the same part of their average."""
        run = TrainingRun(pairs, dataclasses.replace(SMALL, **changes), tmp_path, CPU)
        errors = [run.train_step() for _ in range(2)][-1]
        return (errors.tolist(), *(m.embedding.weight[6:9, 0].tolist() for m in (run.model, run.average)))

    errors, weights, average = after_two_steps()
    for name, value in changes.items():
        other = after_two_steps(**{name: value})
        assert (other[0] != errors) == (name != 'ema_warmup')
        assert (other[1] != weights) == (name != 'ema_warmup')
        assert other[2] != average


def test_weights_that_do_not_fit_the_layers_are_refused_before_the_run(tmp_path):
    with pytest.raises(InputError, match='layer_weights: expected a list of 2 numbers, one for each layer of'):
        train(made_pairs(), dataclasses.replace(SMALL, layer_weights=[1.0] * 3), tmp_path / 'run', CPU)


def test_early_stop_ends_the_run(tmp_path):
    settings = dataclasses.replace(SMALL, steps=1000, learning_rate=0.0, early_stop=2)
    train(made_pairs(), settings, tmp_path, CPU)
    assert [row[0] for row in log_of(tmp_path)[1:]] == ['10', '20', '30']


def test_killed_run_continues(tmp_path, monkeypatch):
    write_pairs(tmp_path / 'pairs.npz', made_pairs())
    config = {'data': 'pairs.npz', 'steps': 60, 'batch_size': 8, 'validate_every': 20}
    (tmp_path / 'run.json').write_text(json.dumps({**config, 'hyperparameters': SMALL.hyperparameters}))
    command = [sys.executable, '-m', 'aiida_e3relax.gnn.cli', 'train', 'run.json', '--threads', '1', '--set']
    killed = subprocess.Popen([*command, 'output=killed'], cwd=tmp_path)
    deadline = time.monotonic() + 120
    while not (tmp_path / 'killed' / 'last.pt').exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL, 'the run was still going when it was killed'
    monkeypatch.chdir(tmp_path)
    assert main(['train', 'run.json', '--set', 'output=killed']) == 0
    assert main(['train', 'run.json', '--set', 'output=whole']) == 0
    assert log_of(tmp_path / 'killed') == log_of(tmp_path / 'whole')


def test_engines_take_the_same_steps(tmp_path):
    settings = dataclasses.replace(SMALL, augmentation=Augmentation(copies=1))
    for engine in ('fast', 'reference'):
        train(made_pairs(), dataclasses.replace(settings, engine=engine), tmp_path / engine, CPU)
    fast, reference = (np.array(log_of(tmp_path / e)[1:], dtype=float) for e in ('fast', 'reference'))
    np.testing.assert_allclose(fast, reference, rtol=2e-3)


def test_output_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(TrainingError, match=r'output .*file/run: this folder cannot be made: Not a directory'):
        train(made_pairs(), SMALL, tmp_path / 'file' / 'run', CPU)


def test_half_precision_takes_nearly_the_same_steps(tmp_path):
    for precision in ('float32', 'bfloat16'):
        train(made_pairs(), dataclasses.replace(SMALL, precision=precision), tmp_path / precision, CPU)
    single, half = (np.array(log_of(tmp_path / p)[1:], dtype=float) for p in ('float32', 'bfloat16'))
    assert not np.array_equal(single, half)
    np.testing.assert_allclose(half, single, rtol=0.03)
    weights = load_content(tmp_path / 'bfloat16' / 'best.pt')['weights']
    assert {tensor.dtype for tensor in weights.values() if tensor.is_floating_point()} == {torch.float32}


def test_curves_are_drawn(tmp_path):
    pytest.importorskip('matplotlib')
    train(made_pairs(), SMALL, tmp_path, CPU, stop_after=10)
    assert (tmp_path / 'curves.png').read_bytes().startswith(b'\x89PNG')


def test_curves_are_drawn_at_once_and_at_the_end_and_rarely_between(tmp_path, monkeypatch):
    pytest.importorskip('matplotlib')
    rows = []
    monkeypatch.setattr(
        'aiida_e3relax.gnn.training.plot.plot_log', lambda log, path: rows.append(len(log_of(log.parent)) - 1)
    )
    train(made_pairs(), dataclasses.replace(SMALL, steps=4, validate_every=1), tmp_path, CPU)
    assert rows == [1, 4]


@pytest.mark.skipif(importlib.util.find_spec('tensorboard') is not None, reason='TensorBoard is installed')
def test_missing_tensorboard_is_said(tmp_path):
    with pytest.raises(InputError, match='pip install tensorboard'):
        train(made_pairs(), SMALL, tmp_path, CPU, with_tensorboard=True)


def test_other_settings_in_the_same_folder_are_refused(tmp_path):
    train(made_pairs(), SMALL, tmp_path, CPU, stop_after=10)
    with pytest.raises(TrainingError, match=r'other settings: learning_rate 0.005 there, 0.001 here'):
        train(made_pairs(), dataclasses.replace(SMALL, learning_rate=1e-3), tmp_path, CPU)


def test_a_folder_in_which_another_process_trains_is_refused(tmp_path):
    with file_lock(tmp_path / '.training.lock'), pytest.raises(TrainingError, match='another process trains there'):
        train(made_pairs(), SMALL, tmp_path, CPU)
    assert not (tmp_path / 'settings.json').exists()


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


def test_gradient_that_is_not_finite_leaves_the_weights_and_names_the_batch(tmp_path):
    run = TrainingRun(made_pairs(), SMALL, tmp_path, CPU)
    run.resume()
    run.train_step()
    run.save()

    def spoil(gradient):
        gradient = gradient.clone()
        gradient.view(-1)[0] = torch.inf
        return gradient

    hook = next(run.model.parameters()).register_hook(spoil)
    names = re.escape(str(run.training.labels[run.order.of(1)].tolist()))
    state = re.escape(str(tmp_path / 'last.pt'))
    with pytest.raises(TrainingError, match=rf'gradient is not finite at step 1 for {names}: .* good state is {state}'):
        run.train_step()
    assert (run.step, run.schedule.since_best) == (1, 0)
    saved = load_content(tmp_path / 'last.pt')['model']
    assert all(torch.equal(saved[name], tensor) for name, tensor in run.model.state_dict().items())
    hook.remove()
    assert np.isfinite(run.train_step()).all()


def test_model_without_weights_is_named(tmp_path):
    with pytest.raises(TrainingError, match='dummy has no weights to train'):
        train(made_pairs(), dataclasses.replace(SMALL, architecture='dummy', hyperparameters={}), tmp_path, CPU)


class Noisy(PaiNN):
    """A model with what behaves otherwise in training: batch norm and dropout."""

    def __init__(self, hyperparameters):
        super().__init__(hyperparameters)
        self.norm = nn.Sequential(nn.BatchNorm1d(hyperparameters.features), nn.Dropout(0.5))

    def relaxed_atoms(self, x, batch):
        return super().relaxed_atoms(self.norm(x), batch)


def test_what_is_validated_is_what_predicts(tmp_path, monkeypatch):
    monkeypatch.setitem(MODELS.data, 'noisy', f'{__name__}:Noisy')
    settings = dataclasses.replace(SMALL, architecture='noisy', hyperparameters={'features': 8, 'layers': 1}, steps=4)
    train(made_pairs(), settings, tmp_path, CPU)
    state = load_content(tmp_path / 'last.pt')
    statistics = [name for name in state['model'] if name.startswith('norm.0.running')]
    assert len(statistics) == 2
    for name in [*statistics, 'norm.0.num_batches_tracked']:
        assert torch.equal(state['average'][name], state['model'][name])
    assert state['average']['norm.0.num_batches_tracked'] == 4
    run = TrainingRun(made_pairs(), settings, tmp_path / 'again', CPU)
    model = load_checkpoint(tmp_path / 'best.pt').model
    found = validation_errors(model, run.validation, run.loss, run.processes).tolist()
    header, *_, last = log_of(tmp_path)
    row = dict(zip(header, map(float, last), strict=True))
    assert found == pytest.approx([row['val_coordinates_A'], row['val_cell_A']], rel=1e-5)


def test_time_of_the_kept_steps_is_kept(tmp_path):
    """A run that stopped adds to the time that it took before, as its last state says."""
    seconds = []
    for stop in (4, 8):
        train(made_pairs(), SMALL, tmp_path, CPU, stop_after=stop)
        seconds.append(load_content(tmp_path / 'last.pt')['seconds'])
    assert 0 < seconds[0]['cpu'] < seconds[1]['cpu']
    assert 0 < seconds[0]['wall'] < seconds[1]['wall']


def test_a_share_of_the_training_pairs_is_part_of_a_larger_share(tmp_path):
    pairs = made_pairs()
    labels = []
    for share in (0.25, 0.5, 1.0):
        part = with_training_share(pairs, share)
        labels.append(set(part.of_split('train').unrelaxed.labels))
        assert len(labels[-1]) == round(share * (pairs.split == 'train').sum())
        assert len(part.of_split('val')) == len(pairs.of_split('val'))
    assert labels[0] < labels[1] < labels[2]
    train(pairs, dataclasses.replace(SMALL, training_share=0.5), tmp_path, CPU, stop_after=2)
    with pytest.raises(TrainingError, match=r'training_share 0\.5 there, 1\.0 here'):
        train(pairs, SMALL, tmp_path, CPU, stop_after=4)
