"""What is done to a campaign while it runs, and what a person has to do for it to go on."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import stat
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.load_cluster import ACTIVE, BIN, COMPUTER, PROFILE, ROOT, VASP_CODE, Cluster, run

STALL, STALL_OF_PAUSED = 180.0, 45.0
"""Seconds without any change of a process after which a person steps in. AiiDA itself waits for up to 160 s."""
MOST_STEPS = 6
"""How often a person does, at most."""
STALLED_JOBS = 4
KILLS = 6
DISK = 24  # MB


@dataclasses.dataclass(frozen=True)
class Fault:
    """Something that breaks `at` seconds after the first jobs of VASP, and is mended after `lasts` more.

    `does` says what was done, and `undoes` how it was mended; nothing is to be mended where that is empty.
    """

    at: float
    lasts: float
    does: str
    act: Callable[[], None]
    undoes: str = ''
    mend: Callable[[], None] = lambda: None


@dataclasses.dataclass(frozen=True)
class Scenario:
    """A campaign and its faults.

    Attributes
    ----------
    title
        For tables, which add how often it was done.
    faults
        In the order of their times.
    vasp_code
        Makes the code that runs VASP, and returns its label.
    options
        Of `campaign create`, beside those of all.
    disk
        The size of the disk for the jobs, in MB; None for that of the machine.
    """

    title: str
    faults: Callable[[Cluster], Iterator[Fault]]
    vasp_code: Callable[[Cluster], str] = lambda _: VASP_CODE
    options: tuple[str, ...] = ()
    disk: int | None = None


def _restart(service: Any, name: str, times: tuple[float, ...], lasts: float) -> Iterator[Fault]:
    for at in times:
        yield Fault(at, lasts, f'{name} stopped', service.stop, f'{name} started', service.start)


def _no_faults(_: Cluster) -> Iterator[Fault]:
    return iter(())


def _kill_workers(cluster: Cluster) -> Iterator[Fault]:
    return (Fault(30.0 * number, 0.0, 'worker killed', cluster.kill_worker) for number in range(KILLS))


def _restart_database(cluster: Cluster) -> Iterator[Fault]:
    return _restart(cluster.services.postgresql(), 'PostgreSQL', (10.0, 90.0), 10.0)


def _restart_broker(cluster: Cluster) -> Iterator[Fault]:
    return _restart(cluster.services.rabbitmq(), 'RabbitMQ', (10.0, 90.0), 10.0)


def _maintain(cluster: Cluster) -> Iterator[Fault]:
    """Stop the daemon before database and broker, as a person does who means to."""
    servers = (cluster.services.postgresql(), cluster.services.rabbitmq())

    def stop() -> None:
        cluster.stop_daemon()
        for server in servers:
            server.stop()

    def start() -> None:
        for server in servers:
            server.start()
        cluster.start_daemon()

    yield Fault(10.0, 10.0, 'daemon, PostgreSQL and RabbitMQ stopped', stop, 'all three started', start)


def _stop_scheduler(cluster: Cluster) -> Iterator[Fault]:
    return _restart(cluster.services.slurmctld(), 'slurmctld', (10.0,), 120.0)


def _fill_disk(cluster: Cluster) -> Iterator[Fault]:
    yield Fault(10.0, 60.0, 'disk full', cluster.fill_disk, 'disk freed', cluster.free_disk)


def _stall(cluster: Cluster) -> str:
    """Make a code whose first jobs do two ionic steps, and then wait for the end of their wall time."""
    program = cluster.folder / 'stalls.sh'
    begun = cluster.folder / 'stalled'
    shutil.rmtree(begun, ignore_errors=True)
    begun.mkdir()
    standin = BIN / 'e3relax-vasp-standin'
    program.write_text(
        '#!/bin/bash\n'
        f'for number in $(seq {STALLED_JOBS}); do\n'
        f'    if mkdir {begun}/$number 2> /dev/null; then\n'
        f'        {standin} --fault killed "$@"; sleep 600\n'
        '    fi\n'
        'done\n'
        f'exec {standin} "$@"\n',
        encoding='utf-8',
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    label = 'stalls'
    with contextlib.suppress(RuntimeError):  # it is not there yet
        run('verdi', 'code', 'show', f'{label}@{COMPUTER}')
        return f'{label}@{COMPUTER}'
    run(
        *('verdi', 'code', 'create', 'core.code.installed', '--non-interactive', '--label', label),
        *('--computer', COMPUTER, '--filepath-executable', str(program), '--default-calc-job-plugin', 'vasp.vasp'),
        *('--prepend-text', 'export E3RELAX_STANDIN_ENGINE=emt OMP_NUM_THREADS=1'),
    )
    return f'{label}@{COMPUTER}'


SCENARIOS = {
    'faultless': Scenario('no fault', _no_faults),
    'workers': Scenario('a worker killed (`kill -9`) every 30 s', _kill_workers),
    'database': Scenario('PostgreSQL stopped for 10 s', _restart_database),
    'broker': Scenario('RabbitMQ stopped for 10 s', _restart_broker),
    'maintenance': Scenario('both stopped for 10 s, the daemon stopped before and started after', _maintain),
    'scheduler': Scenario('slurmctld down for two minutes', _stop_scheduler),
    'disk': Scenario("the jobs' disk full for one minute", _fill_disk, disk=DISK),
    'walltime': Scenario(
        f'{STALLED_JOBS} jobs ended by SLURM at their wall time', _no_faults, _stall, options=('--max-hours', '0.0166')
    ),
}


class Timeline:
    """Breaks and mends in turn, one fault after the other, and keeps what was done.

    Parameters
    ----------
    faults
        In the order of their times.
    has_begun
        Whether the campaign has come so far that the times of faults begin.
    """

    def __init__(self, faults: Iterator[Fault], has_begun: Callable[[], bool]):
        self.done: list[tuple[float, str]] = []
        self._faults, self._has_begun = faults, has_begun
        self._next = next(faults, None)
        self._broken: Fault | None = None
        self._made = time.monotonic()
        self._zero: float | None = None

    @property
    def is_broken(self) -> bool:
        """Whether something is down that a person would wait for."""
        return self._broken is not None

    @property
    def seconds(self) -> float:
        """The time since this was made."""
        return time.monotonic() - self._made

    def advance(self) -> None:
        """Do what is due."""
        if self._zero is None:
            if not self._has_begun():
                return
            self._zero = time.monotonic()
        passed = time.monotonic() - self._zero
        if self._broken and passed >= self._broken.at + self._broken.lasts:
            self.mend()
        if not self._broken and self._next and passed >= self._next.at:
            fault, self._next = self._next, next(self._faults, None)
            self.done.append((self.seconds, fault.does))
            if fault.undoes:
                self._broken = fault
            fault.act()

    def mend(self) -> None:
        """Mend what is broken."""
        if self._broken:
            self._broken.mend()
            self.done.append((self.seconds, self._broken.undoes))
            self._broken = None


class Person:
    """Runs a campaign to its end: gives `run` again where it has ended early, and steps in where nothing goes on.

    Attributes
    ----------
    given
        The commands beside the first, with their times.
    ends
        The exit statuses of `run`, with the last line that it printed.
    """

    def __init__(self, cluster: Cluster, name: str, log: Path):
        self.given: list[tuple[float, str]] = []
        self.ends: list[tuple[int, str]] = []
        self._cluster, self._name, self._log = cluster, name, log
        self._steps = 0
        self._last: object = None
        self._since = time.monotonic()

    def run_to_end(self, timeline: Timeline, limit: float) -> bool:
        """Return whether the campaign has ended within `limit` seconds."""
        controller = self._start()
        try:
            while timeline.seconds < limit:
                timeline.advance()
                if timeline.is_broken:
                    self._since = time.monotonic()
                elif controller.poll() is not None:
                    self.ends.append((controller.returncode, self._read_last_line()))
                    states = _count_states(self._name)
                    again = self._what_next(states)
                    if again is None:
                        return not (states['waiting'] or states['running'])
                    self.given.append((timeline.seconds, ' '.join(('campaign run', *again))))
                    controller = self._start(*again)
                elif not self._goes_on() and not self._step_in(timeline):
                    return False
                time.sleep(1.0)
            return False
        finally:
            if controller.poll() is None:
                controller.terminate()
                controller.wait()

    def _start(self, *options: str) -> subprocess.Popen[bytes]:
        command = [str(BIN / 'aiida-e3relax'), 'campaign', 'run', self._name, '--interval', '2', *options]
        with self._log.open('ab') as log:
            log.write(f'$ campaign run {" ".join(options)}\n'.encode())
            log.flush()
            return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def _read_last_line(self) -> str:
        return self._log.read_text(encoding='utf-8', errors='replace').strip().splitlines()[-1]

    def _what_next(self, states: Counter[str]) -> tuple[str, ...] | None:
        """Return the options of the next `run` after one that has ended, or None where there is to be no other."""
        is_left = bool(states['waiting'] or states['running'])
        if self._steps == MOST_STEPS or not (is_left or states['failed'] or states['excepted'] or states['killed']):
            return None
        self._steps += 1
        return () if is_left else ('--retry-failed',)

    def _goes_on(self) -> bool:
        """Return whether there is still something to wait for."""
        try:
            pulse = self._cluster.feel_pulse()
        except psycopg.Error:
            return True  # the server is on its way up
        if pulse != self._last or any(job.state in ACTIVE for job in self._cluster.read_jobs()):
            self._last, self._since = pulse, time.monotonic()
        return time.monotonic() - self._since < (STALL_OF_PAUSED if pulse.paused else STALL)

    def _step_in(self, timeline: Timeline) -> bool:
        """Do what `verdi` has for processes that stand still, and return whether there was anything left to do."""
        if self._steps == MOST_STEPS:
            return False
        self._steps += 1
        if self._cluster.feel_pulse().paused:
            self._give(timeline, 'verdi process play --all', ('verdi', 'process', 'play', '--all', '--timeout', '20'))
        else:
            for words in (('daemon', 'stop'), ('process', 'repair', '--force'), ('daemon', 'start', '2')):
                self._give(timeline, f'verdi {" ".join(words)}', ('verdi', *words))
        self._since = time.monotonic()
        return True

    def _give(self, timeline: Timeline, text: str, command: tuple[str, ...]) -> None:
        self.given.append((timeline.seconds, text))
        run(*command, log=self._log.with_suffix('.by-hand.log'))


def _count_states(name: str) -> Counter[str]:
    rows = json.loads(run('aiida-e3relax', 'query', 'campaign', name, '--json', '--profile', PROFILE))
    return Counter(row['state'] for row in rows)
