"""`benchmarks/gpu.py` on the processor: each check is done, and one that fails or dies takes no other with it."""

from __future__ import annotations

import importlib
import json

import pytest

from benchmarks import gpu, gpu_checks

QUICK = ['hardware', 'neighbours', 'fixed', 'symmetry', 'memory', 'bfloat16', 'devices', 'program']


def run(folder, *words: str) -> tuple[int, dict[str, dict]]:
    status = gpu.main(['--output', str(folder), '--device', 'cpu', '--small', *words])
    content = json.loads((folder / 'results.json').read_text(encoding='utf-8'))
    return status, {check['name']: check for check in content['checks']}


def test_the_checks_are_those_of_the_script():
    assert all(callable(getattr(gpu_checks, name)) for name in gpu.CHECKS)
    assert set(QUICK) <= set(gpu.CHECKS)


def test_each_check_is_done_and_written(tmp_path):
    status, checks = run(tmp_path, '--only', *QUICK)
    states = {name: check['state'] for name, check in checks.items()}
    assert states == dict.fromkeys(QUICK, 'passed') | {'devices': 'skipped'}, checks
    assert status == 0
    assert checks['memory']['facts']['batches with little memory'] > 1
    assert checks['program']['facts']['report']['device']['used'] == 'cpu'
    assert all(check['deviations'] for name, check in checks.items() if name not in ('hardware', 'devices'))
    table = (tmp_path / 'results.md').read_text(encoding='utf-8')
    assert all(f'| {name} | {state} |' in table for name, state in states.items())


@pytest.mark.slow
def test_the_other_checks(tmp_path):
    status, checks = run(tmp_path, '--only', *(set(gpu.CHECKS) - set(QUICK)))
    assert {check['state'] for check in checks.values()} <= {'passed', 'skipped'}, checks
    assert status == 0


def test_a_deviation_and_an_error_are_told(monkeypatch):
    def too_far(record):
        record.same('what', [1.0, 2.0], [1.0, 2.5], 0.1)
        record.same('the other', [1.0], [1.0], 0.1)

    def not_finite(record):
        record.same('what', [float('nan')], [1.0], 0.1)

    def broken(record):
        record.same('before', [0.0], [0.0], 0.1)
        raise RuntimeError('an illegal memory access\nmore')

    for name, function in (('engine', too_far), ('graphs', not_finite), ('memory', broken)):
        monkeypatch.setattr(gpu_checks, name, function)
    found = [gpu_checks.perform(name, 'cpu', is_small=True) for name in ('engine', 'graphs', 'memory')]
    assert [result.state for result in found] == ['failed'] * 3
    assert found[0].message == 'what: differs by 0.5, allowed are 0.1'
    assert len(found[0].deviations) == 2
    assert found[2].message.startswith('RuntimeError: an illegal memory access (test_gpu_benchmark.py:')
    assert len(found[2].deviations) == 1


DYING = """
from benchmarks.gpu import Result


def die_or_hang(connection, device, is_small):
    connection.send(None)
    while name := connection.recv():
        if name == 'engine':
            raise SystemExit(7)
        if name == 'graphs':
            connection.recv()  # for ever
        connection.send(Result(name, 'passed'))
"""


def test_what_dies_or_hangs_takes_no_other_with_it(tmp_path, monkeypatch):
    (tmp_path / 'dying.py').write_text(DYING, encoding='utf-8')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(gpu, 'work', importlib.import_module('dying').die_or_hang)
    monkeypatch.setitem(gpu.CHECKS, 'graphs', 1.0)
    status, checks = run(tmp_path, '--only', 'hardware', 'engine', 'memory', 'graphs', 'program')
    assert {name: check['state'] for name, check in checks.items()} == {
        'hardware': 'passed',
        'engine': 'failed',
        'memory': 'passed',
        'graphs': 'failed',
        'program': 'passed',
    }
    assert checks['engine']['message'] == 'its process ended, exit code 7'
    assert checks['graphs']['message'] == 'not done within 1 s'
    assert status == 1


def test_what_time_is_not_left_for_is_not_done(tmp_path):
    status, checks = run(tmp_path, '--only', 'hardware', '--minutes', '0')
    assert (status, checks['hardware']['state']) == (1, 'not done')
