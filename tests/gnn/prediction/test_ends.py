"""How a run of ``e3relax predict`` ends: with a whole output, or with one line, a report of it and nothing else."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from ase.build import bulk

from aiida_e3relax.crystals.files.stream import stream_structures
from aiida_e3relax.crystals.structures import write_npz
from aiida_e3relax.gnn.checkpoints.checkpoint import save_checkpoint
from aiida_e3relax.gnn.cli import main
from aiida_e3relax.gnn.graph.batch import Geometry
from aiida_e3relax.gnn.models.ensemble import Ensemble
from aiida_e3relax.gnn.models.registry import make_model
from aiida_e3relax.gnn.models.symmetric import SymmetricRelaxation
from aiida_e3relax.gnn.prediction import streaming
from tests.gnn.crystals import batch_of, rattled

MEMBER = {'features': 8, 'layers': 1}
SIZES = {'member': 'e3relax-h2', 'member_hyperparameters': MEMBER, 'members': 2}


@pytest.fixture
def folder(tmp_path):
    """A small ensemble, four crystals that it predicts, and in the middle four that it refuses."""
    torch.manual_seed(1)
    save_checkpoint(tmp_path / 'small.pt', 'ensemble', make_model('ensemble', SIZES), [8, 22, 30, 31, 33], {'step': 0})
    frames = [*rattled(0)[:2], *(bulk('Cu', a=a) for a in (3.5, 3.6, 3.7, 3.8)), *rattled(1)[:2]]
    write_npz(tmp_path / 'in.npz', batch_of(*frames))
    return tmp_path


def predict(folder, output='out.npz', report='report.json'):
    paths = ['--model', str(folder / 'small.pt'), '--output', str(folder / output), '--report', str(folder / report)]
    return main(['predict', str(folder / 'in.npz'), *paths, '--device', 'cpu', '--dtype', 'float64'])


def error_of(folder):
    return json.loads((folder / 'report.json').read_text())['error']


def left_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_uncertainties_of_report_and_output_agree_where_a_piece_has_none(folder, monkeypatch):
    monkeypatch.setattr(streaming, 'stream_structures', lambda paths: stream_structures(paths, 2))
    assert predict(folder) == 0
    arrays = np.load(folder / 'out.npz')
    rows = json.loads((folder / 'report.json').read_text())['structures']
    assert arrays['status'].tolist() == [row['status'] for row in rows]
    assert arrays['labels'].tolist() == [row['label'] for row in rows]
    assert arrays['status'].tolist() == ['ok'] * 2 + ['unknown_element'] * 4 + ['ok'] * 2
    np.testing.assert_array_equal(arrays['uncertainty'], [row.get('uncertainty_A', np.nan) for row in rows])
    assert np.isfinite(arrays['uncertainty']).tolist() == [True] * 2 + [False] * 4 + [True] * 2


def test_an_uncertainty_that_is_not_finite_is_not_stated(folder, monkeypatch):
    whole = Ensemble.forward

    def forward(self, batch):
        (geometry,) = whole(self, batch)
        return [Geometry(geometry.fractional, geometry.cell, torch.full_like(geometry.uncertainty, torch.nan))]

    monkeypatch.setattr(Ensemble, 'forward', forward)
    assert predict(folder) == 0
    text = (folder / 'report.json').read_text()
    assert 'NaN' not in text
    assert 'uncertainty_A' not in text


@pytest.mark.parametrize('words', ['CUDA out of memory', 'CUDA error: CUBLAS_STATUS_ALLOC_FAILED', 'std::bad_alloc'])
def test_batches_are_halved_until_they_fit(folder, monkeypatch, words):
    whole = SymmetricRelaxation.forward

    def forward(self, batch):
        if len(batch.n_atoms) > 1:
            raise RuntimeError(words)
        return whole(self, batch)

    monkeypatch.setattr(SymmetricRelaxation, 'forward', forward)
    assert predict(folder) == 0
    report = json.loads((folder / 'report.json').read_text())
    assert [len(batch) for batch in report['batches']] == [1] * 4
    assert report['error'] is None


@pytest.mark.parametrize('name', ['load_checkpoint', 'Predictor'])
@pytest.mark.parametrize('error', [MemoryError(), torch.OutOfMemoryError('CUDA out of memory')], ids=repr)
def test_memory_that_runs_out_elsewhere_is_told(folder, monkeypatch, capsys, name, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(streaming, name, fail)
    assert predict(folder) == 6
    assert error_of(folder)['code'] == 'out_of_memory'
    assert 'out of memory' in capsys.readouterr().err.lower() or 'MemoryError' in error_of(folder)['message']
    assert left_in(folder) == ['in.npz', 'report.json', 'small.pt']


@pytest.mark.parametrize(
    ('output', 'message'),
    [
        ('in.npz', 'would be lost'),
        ('small.pt', 'would be lost'),
        ('.', 'expected a file, found a folder'),
        ('none/out.npz', 'does not exist'),
    ],
)
def test_outputs_that_cannot_be(folder, capsys, output, message):
    assert predict(folder, output) == 3
    assert message in error_of(folder)['message']
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert left_in(folder) == ['in.npz', 'report.json', 'small.pt']


@pytest.mark.parametrize('report', ['in.npz', 'small.pt', 'out.npz', '.', 'none/report.json'])
def test_reports_that_cannot_be(folder, capsys, report):
    assert predict(folder, report=report) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert f'--report {folder / report}' in line
    assert left_in(folder) == ['in.npz', 'small.pt']


def run(folder, program=(sys.executable, '-m', 'aiida_e3relax.gnn.cli'), **more):
    command = [*program, 'predict', 'in.npz', '--model', 'small.pt']
    command += ['--output', 'out.npz', '--report', 'report.json', '--device', 'cpu']
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, **more)


def test_no_room_for_the_output(folder, find_program):
    """A bound on the size of files stands in for a full disk."""
    write_npz(folder / 'in.npz', batch_of(*[bulk('ZnO', 'rocksalt', a=4.3) * (4, 4, 4)] * 10))
    small = 25_000  # bytes; the report has fewer, the output more
    limit = (resource.RLIMIT_FSIZE, (small, small))
    process = run(folder, [find_program('e3relax')], preexec_fn=lambda: resource.setrlimit(*limit))
    _, told = process.communicate(timeout=300)
    assert process.returncode == 9, told
    assert told.splitlines()[-1].startswith('e3relax: error: ')
    assert 'File too large' in told
    assert 'Traceback' not in told
    assert not [name for name in left_in(folder) if name.startswith('out.npz') or name.endswith('.partial')]


def test_a_run_that_is_ended_from_outside_says_so(folder):
    many = batch_of(*(atoms for _ in range(3000) for atoms in rattled(0)))
    write_npz(folder / 'in.npz', many)
    process = run(folder)
    deadline = time.monotonic() + 120
    while not list(folder.glob('out.npz.*.partial')) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 130, told
    assert told.splitlines()[-1] == 'e3relax: error: ended by SIGTERM'
    assert 'Traceback' not in told
    assert error_of(folder) == {'code': 'interrupted', 'message': 'ended by SIGTERM', 'exit_status': 130}
    assert left_in(folder) == ['in.npz', 'report.json', 'small.pt']
