"""Several processes, started by torchrun, take the steps that one takes."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest

from aiida_e3relax.crystals.datasets.pairs_file import write_pairs
from aiida_e3relax.gnn.cli import main
from tests.gnn.pairs import made_pairs

CONFIG = {
    'data': 'pairs.npz',
    'steps': 12,
    'batch_size': 8,
    'balanced_batches': True,
    'validate_every': 4,
    'schedule': 'plateau',
    'hyperparameters': {'features': 8, 'layers': 2},
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pairs('pairs.npz', made_pairs())
    (tmp_path / 'run.json').write_text(json.dumps(CONFIG))
    return tmp_path


def of_two_processes(*arguments):
    """Run ``e3relax train run.json`` in two processes on the CPU."""
    launcher = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2']
    command = [*launcher, '-m', 'aiida_e3relax.gnn.cli', 'train', 'run.json', '--device', 'cpu', *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
def test_two_take_the_steps_of_one_and_continue_them(place):
    assert main(['train', 'run.json', '--set=output=one', '--device=cpu', '--stop-after=4']) == 0
    done = of_two_processes('--set=output=one')
    assert done.returncode == 0, done.stderr
    assert done.stderr.count('best validation') == 1, 'one process speaks'
    assert main(['train', 'run.json', '--set=output=whole', '--device=cpu']) == 0
    logs = []
    for output in ('one', 'whole'):
        with (place / output / 'log.csv').open(newline='') as handle:
            logs.append(np.array([list(map(float, row.values())) for row in csv.DictReader(handle)]))
    assert logs[0][:, 0].tolist() == [4, 8, 12]
    np.testing.assert_allclose(*logs, rtol=1e-4)


def test_mistakes_end_all_processes_with_their_reason(place):
    done = of_two_processes('--set=output=odd', '--set=batch_size=7')
    assert done.returncode != 0
    assert 'batch_size 7 does not divide among 2 processes' in done.stderr
    assert not (place / 'odd').exists()
