"""Daemon workers killed while a chain runs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest
from aiida import orm
from aiida.engine import submit
from aiida.engine.daemon.client import DaemonClient

LONG_ENOUGH_TO_BE_INTERRUPTED = 6  # s
PATIENCE = 120  # s


def wait_until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f'waited {PATIENCE} s for {what}'
        time.sleep(0.1)


def kill_workers(client: DaemonClient) -> None:
    """Kill the workers of the tests' own profile as the kernel would, and wait until there are others."""
    killed = {int(pid) for pid in client.get_worker_info()['info']}
    assert killed
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: bool({int(pid) for pid in client.get_worker_info()['info']} - killed), 'new workers')


@pytest.mark.slow
@pytest.mark.daemon
def test_a_chain_outlives_its_workers_and_runs_nothing_twice(
    make_builder, make_scripted_code, started_daemon_client, tmp_path
):
    log = tmp_path / 'started'
    log.touch()
    slowly = f'echo $PWD >> {log}; sleep {LONG_ENOUGH_TO_BE_INTERRUPTED}'
    builder = make_builder(
        network_code=make_scripted_code(slowly, 'e3relax', 'e3relax.predict'),
        vasp_code=make_scripted_code(slowly, 'e3relax-vasp-standin', 'vasp.vasp'),
        freedom='positions',
        reference_leg='always',
    )
    chain = submit(builder)
    for n_running in (1, 3):  # the network alone, and VASP in both legs
        wait_until(lambda n=n_running: len(submitted_jobs(chain)) == n, f'job {n_running} to be submitted')
        kill_workers(started_daemon_client)
    wait_until(lambda: chain.is_terminated, 'the end of the chain')

    assert chain.is_finished_ok, chain.exit_message
    assert chain.outputs.comparison['same_minimum']
    jobs = submitted_jobs(chain)
    assert len(jobs) == 3
    assert sorted(log.read_text().split()) == sorted(job.get_remote_workdir() for job in jobs)


def submitted_jobs(chain: orm.ProcessNode) -> list[orm.CalcJobNode]:
    """The jobs of which AiiDA knows under what number they run."""
    jobs = [called for called in chain.called_descendants if isinstance(called, orm.CalcJobNode)]
    return [job for job in jobs if job.get_job_id()]
