"""Real runs of the commands, at the smallest size: what is written, what fails alone, and what a kill leaves."""

import csv
import fcntl
import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from aiida_e3relax.crystals.datasets.pairs_file import write_pairs
from aiida_e3relax.gnn.checkpoints.checkpoint import load_content
from aiida_e3relax.gnn.cli import main
from aiida_e3relax.gnn.experiments.results import read_measured, read_result
from tests.gnn.pairs import made_pairs

CONFIG = {
    'data': 'made.npz',
    'output': 'out',
    'seeds': 1,
    'settings': {'steps': 4, 'batch_size': 8, 'validate_every': 2},
    'hyperparameters': {'features': 8, 'layers': 1, 'radial_functions': 4},
    'match': False,
    'inference_batches': [2],
    'models': {'painn': {}, 'diverging': {'architecture': 'egnn', 'learning_rate': 1e30}},
}
QUICK = ['--device', 'cpu', '--threads', '1']


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pairs(tmp_path / 'made.npz', made_pairs(3))
    (tmp_path / 'file.json').write_text(json.dumps(CONFIG))
    return tmp_path


def test_benchmark_from_start_to_end(folder, capsys, monkeypatch):
    """One model diverges: it is a row that says so, and does not take the other down."""
    assert main(['benchmark', 'file.json', '--jobs', '2', *QUICK]) == 1
    text = (folder / 'out' / 'table.md').read_text()
    assert '| Dummy | ' in text
    assert '| painn | ' in text
    assert '| diverging: failed: the loss is not finite at step' in text
    assert text in capsys.readouterr().out
    with (folder / 'out' / 'results.csv').open(newline='') as handle:
        rows = [row for row in csv.DictReader(handle) if row['of'] == 'painn']
    assert {(row['frame'], row['state'], row['steps'], row['seed']) for row in rows} == {
        ('as filed', 'done', '4', '0'),
        ('aligned', 'done', '4', '0'),
    }
    assert all(float(row['training_cpu_h']) > 0 and float(row['inference_ms_batch_2']) > 0 for row in rows)
    for kind in ('benchmark', 'violins', 'distributions', 'crystals'):
        assert (folder / 'out' / f'{kind}-made.png').read_bytes().startswith(b'\x89PNG')
    monkeypatch.setattr('aiida_e3relax.gnn.experiments.report.write_figures', lambda _: [])
    _done_is_read_again(folder)
    _other_settings_and_data_are_refused(folder, capsys)


def _done_is_read_again(folder):
    done = folder / 'out' / 'runs' / 'made' / 'painn' / 'seed-0'
    before = (done / 'result.json').stat().st_mtime_ns, (done / 'output.log').stat().st_size
    mended = CONFIG | {'models': {'painn': {}, 'mended': {'architecture': 'painn'}}}
    (folder / 'file.json').write_text(json.dumps(mended))
    assert main(['benchmark', 'file.json', *QUICK]) == 0  # the new row is the same training
    assert ((done / 'result.json').stat().st_mtime_ns, (done / 'output.log').stat().st_size) == before
    assert '| mended | ' in (folder / 'out' / 'table.md').read_text()


def _other_settings_and_data_are_refused(folder, capsys):
    assert main(['benchmark', 'file.json', '--set', 'learning_rate=0.5', *QUICK]) == 3
    assert 'learning_rate 0.0012 there, 0.5 here' in capsys.readouterr().err
    write_pairs(folder / 'made.npz', made_pairs(4))
    assert main(['benchmark', 'file.json', *QUICK]) == 3
    assert 'holds a run on other data than made.npz' in capsys.readouterr().err


@pytest.mark.slow
def test_killed_command_leaves_nothing_behind_and_goes_on(folder):
    changes = ['--set', 'steps=120', '--set', 'validate_every=40', '--models', 'painn']
    command = [sys.executable, '-m', 'aiida_e3relax.gnn.cli', 'benchmark', 'file.json', *changes, *QUICK]
    run = folder / 'out' / 'runs' / 'made' / 'painn' / 'seed-0'
    killed = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    _wait_for((run / 'last.pt').exists)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    _wait_for(lambda: _is_free(run / '.lock'))
    step = load_content(run / 'last.pt')['step']
    assert not (run / 'result.json').exists(), 'the run was still going when the command was killed'
    assert main(command[3:]) == 0
    with (run / 'log.csv').open(newline='') as handle:
        assert [int(row['step']) for row in csv.DictReader(handle)] == [40, 80, 120]
    assert f'training  {step + 1}/120' in (run / 'output.log').read_text()


@pytest.mark.slow
def test_less_is_there_and_more_is_added(folder, monkeypatch):
    """Asking for less measures nothing and loses nothing; asking for more measures that alone, on the same training."""
    monkeypatch.setattr('aiida_e3relax.gnn.experiments.report.write_figures', lambda _: [])
    run = folder / 'out' / 'runs' / 'made' / 'painn' / 'seed-0'
    command = ['benchmark', 'file.json', '--models', 'painn', *QUICK]
    (folder / 'file.json').write_text(json.dumps(CONFIG | {'match': True}))
    assert main([*command, '--jobs', '2']) == 0
    first, log = read_result(run), (run / 'output.log').read_text()
    assert (first.measurement['match'], first.last_told('validation')) == (['test'], 'val')
    assert main([*command, '--no-match', '--inference-batches']) == 0
    assert read_result(run) == first
    assert (run / 'output.log').read_text() == log
    assert '| match % |' in (folder / 'out' / 'table.md').read_text()
    measured = dict(zip(range(2), read_measured(run), strict=True))
    assert main([*command, '--no-match', '--inference-batches', '3', '--split', 'val', 'test']) == 0
    both = read_result(run)
    assert both.measurement == {'splits': ['test', 'val'], 'match': ['test'], 'inference_batches': [2, 3]}
    assert (both.content_hash, both.inference_ms['2']) == (first.content_hash, first.inference_ms['2'])
    assert both.inference_ms['3']['forward'] > 0
    assert [(s['jobs'], s['trained'], s['splits']) for s in both.sessions] == [(2, True, ['test']), (1, False, ['val'])]
    kept = [m for split, m in read_measured(run) if split == 'test']
    assert [m.row() for m in kept] == [m.row() for _, m in measured.values()]
    text = (folder / 'out' / 'table.md').read_text()
    assert 'On the split val the best checkpoint of each training was chosen' in text
    assert 'Times are of 1 or 2 jobs side by side' in text


@pytest.mark.slow
def test_run_that_is_ended_from_outside_has_not_failed(folder):
    changes = ['--set', 'steps=100000', '--set', 'validate_every=2', '--models', 'painn']
    command = [sys.executable, '-m', 'aiida_e3relax.gnn.cli', 'benchmark', 'file.json', *changes, *QUICK]
    run = folder / 'out' / 'runs' / 'made' / 'painn' / 'seed-0'
    benchmark = subprocess.Popen(command, stderr=subprocess.PIPE)
    _wait_for((run / 'last.pt').exists)
    (worker,) = psutil.Process(benchmark.pid).children()
    worker.terminate()
    assert benchmark.wait(60) == 130
    assert 'painn, made, seed 0: ended from outside: the same command goes on' in benchmark.stderr.read().decode()
    assert not (run / 'result.json').exists()
    text = (folder / 'out' / 'table.md').read_text()
    assert 'Not done:\n\n- painn, made, seed 0' in text
    assert 'Failed' not in text


def test_run_that_another_process_has_is_left_to_it(folder, capsys):
    assert main(['benchmark', 'file.json', '--models', 'painn', '--prepare', *QUICK]) == 0
    capsys.readouterr()
    runs = folder / 'out' / 'runs' / 'made'
    with (runs / 'painn' / 'seed-0' / '.lock').open('w') as handle, (runs / 'dummy' / '.lock').open('w') as other:
        for held in (handle, other):
            fcntl.flock(held, fcntl.LOCK_EX)
        assert main(['benchmark', 'file.json', '--models', 'painn', *QUICK]) == 0
    assert 'held by other processes: dummy, made; painn, made, seed 0: the same' in capsys.readouterr().out
    assert not (runs / 'painn' / 'seed-0' / 'result.json').exists()


@pytest.mark.slow
def test_sweep_and_ablation(folder):
    common = ['made.npz', '--no-match', '--inference-batches', '--seeds', '1', *QUICK]
    common += [f'--set={name}={value}' for name, value in CONFIG['settings'].items()]
    sizes = ['--set=layers=1', '--set=radial_functions=4']
    assert main(['sweep', 'features=8,16', *common, '--model', 'painn', '--output', 'swept', *sizes]) == 0
    text = (folder / 'swept' / 'table.md').read_text()
    assert '| features=8 | ' in text
    assert '| features=16 | ' in text
    assert (folder / 'swept' / 'sweep-made.png').read_bytes().startswith(b'\x89PNG')
    sizes += ['--set=features=8', '--variants', 'cutoff of 4 A', '--model', 'painn']
    assert main(['ablate', *common, '--output', 'ablated', *sizes]) == 0
    text = (folder / 'ablated' / 'table.md').read_text()
    assert text.index('| painn | ') < text.index('| cutoff of 4 A | ')
    assert (folder / 'ablated' / 'ablate-made.png').exists()


def _wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert condition()


def _is_free(path):
    with path.open('w') as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
