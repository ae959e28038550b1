"""What the tests on the services share: that they run, a folder for AiiDA, and what SLURM says of its jobs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
SERVICES = Path(__file__).with_name('services.py')
FOLDER = Path('/tmp/e3relax-services')

Shell = Callable[[str], str]


@pytest.fixture(scope='session', autouse=True)
def _services() -> None:
    """Whatever does not run is an error: a test that is passed over would tell nothing."""
    told = subprocess.run([sys.executable, SERVICES, 'status'], capture_output=True, text=True, check=False)
    if told.returncode:
        pytest.fail(f'{told.stderr.strip()}; `make services-test` does both')


@pytest.fixture(scope='module')
def database() -> str:
    """The name of a database that is not there yet."""
    return f'test-{uuid4().hex[:8]}'


@pytest.fixture(scope='module')
def shell(tmp_path_factory, database) -> Iterator[Shell]:
    """A function that runs lines of bash in the checkout, with a home of its own, and returns what they print.

    At the end the daemon is stopped, and the database goes.
    """
    home = tmp_path_factory.mktemp('home')
    (home / '.ssh').symlink_to(FOLDER / 'home' / '.ssh')
    environment = {name: value for name, value in os.environ.items() if name not in ('AIIDA_PATH', 'AIIDA_PROFILE')}
    environment |= {'PATH': f'{BIN}:{os.environ["PATH"]}', 'COLUMNS': '200'}
    prelude = f'set -euo pipefail\nsource {FOLDER}/environment.sh\nexport OWN_HOME={home} HOME={home}\n'

    def run(lines: str) -> str:
        done = subprocess.run(
            ['bash', '-c', prelude + lines],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        told = f'{done.stdout[-6000:]}\n{done.stderr[-6000:]}'
        assert done.returncode == 0, f'{lines}\n{told}'
        return done.stdout

    yield run
    run(f'verdi daemon stop || true; dropdb --if-exists --force {database}')


def read_jobs_of_slurm(shell: Shell) -> dict[str, tuple[str, ...]]:
    """Return partition, generic resources, and state of each job, by its number."""
    rows = [line.split() for line in shell("squeue --states=all --noheader --format='%i %P %b %T'").splitlines()]
    return {number: tuple(told) for number, *told in rows}


def check_jobs(shell: Shell, computer: str, lost: int = 0) -> list[dict[str, Any]]:
    """Hold every job of a profile on a computer to its partition, and those of the network to the GPU; return them.

    So many as are `lost` went with their node; all others ended well.
    """
    jobs = [job for job in json.loads(shell('verdi run tests/services/jobs.py')) if job['computer'] == computer]
    of_slurm = read_jobs_of_slurm(shell)
    states = Counter(of_slurm[job['job_id']][2] for job in jobs)
    assert states == Counter(COMPLETED=len(jobs) - lost, NODE_FAIL=lost)
    for job in jobs:
        *place, state = of_slurm[job['job_id']]
        assert (job['exit_status'] == 0) == (state == 'COMPLETED'), job
        if job['process'] == 'E3RelaxCalculation':
            assert place == ['gpu', 'gres:gpu:1']
            assert f'job {job["job_id"]} in partition gpu, GPU 0' in job['stdout'].splitlines()
        else:
            assert place == ['cpu', 'N/A']
    return jobs
