"""Services of its own, as those of the tests, with a profile: a cluster whose parts are taken down and brought up."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
PROFILE = 'load'
COMPUTER = 'test-cluster'
DATABASE = 'load'
SHIFT = 1000
"""Of the ports, from those of the tests' services."""
WORKERS = 2
SETUP = ROOT / 'docs' / 'examples' / 'test_cluster' / 'setup.yaml'
NETWORK_CODE = f'e3relax@{COMPUTER}'
VASP_CODE = f'vasp-standin-emt@{COMPUTER}'
PARTITION = 'cpu'  # of VASP_CODE
WORK_OF_TESTS = '/tmp/e3relax-services/work'
ENDED = ('finished', 'excepted', 'killed')
ACTIVE = ('PENDING', 'RUNNING', 'CONFIGURING', 'COMPLETING', 'SUSPENDED')
"""States of jobs of SLURM that have not ended."""


@dataclasses.dataclass(frozen=True)
class SlurmJob:
    """A job as SLURM has it."""

    number: str
    state: str
    folder: str


@dataclasses.dataclass(frozen=True)
class Pulse:
    """The processes of the profile at one moment: how many have not ended, how many of these are paused.

    `last_change` is any number that changes when one of them does.
    """

    active: int
    paused: int
    last_change: Any


class Cluster:
    """Services of its own, a profile in their PostgreSQL with their RabbitMQ, and their SLURM by SSH.

    To be made before AiiDA is imported: the environment of this process and of its commands becomes that of the
    cluster.

    Parameters
    ----------
    folder
        For all files: `services`, `home` with AiiDA's folder in it, and `work`, the folder of the jobs.

    Attributes
    ----------
    services
        The module of the tests that starts and stops them.
    """

    def __init__(self, folder: Path):
        self.folder = folder.resolve()
        self.home = self.folder / 'home'
        self.work = self.folder / 'work'
        self.overrides = self.folder / 'overrides.yaml'
        os.environ.update(E3RELAX_SERVICES=str(self.folder / 'services'), E3RELAX_SERVICES_SHIFT=str(SHIFT))
        self.services: Any = importlib.import_module('tests.services.services')  # reads them
        # The number of threads is that of the jobs' own lines; these commands have one each.
        os.environ.update(PATH=f'{BIN}:{os.environ["PATH"]}', COLUMNS='200', OMP_NUM_THREADS='1')

    def set_up(self) -> None:
        """Start the services, and make the profile with computer, codes, potentials and model unless it is there."""
        self.services.up()
        lines = f'source {self.services.FOLDER}/environment.sh && env -0'
        told = subprocess.run(['bash', '-c', lines], capture_output=True, text=True, check=True).stdout
        os.environ.clear()
        os.environ.update(
            (name, value) for name, _, value in (line.partition('=') for line in told.split('\0')) if name
        )
        os.environ['HOME'] = str(self.home)
        if self.overrides.exists():
            return
        self.home.mkdir(exist_ok=True)
        self.work.mkdir(exist_ok=True)
        (self.home / '.ssh').unlink(missing_ok=True)
        (self.home / '.ssh').symlink_to(self.services.FOLDER / 'home' / '.ssh')
        run('dropdb', '--if-exists', '--force', DATABASE)
        run('createdb', DATABASE)
        of_database = {
            'hostname': os.environ['PGHOST'],
            'port': os.environ['PGPORT'],
            'username': os.environ['PGUSER'],
            'password': os.environ['PGPASSWORD'],
            'name': DATABASE,
        }
        options = [word for name, value in of_database.items() for word in (f'--database-{name}', value)]
        options += ['--repository-uri', (self.home / 'repository').as_uri(), '--broker', 'core.rabbitmq']
        identity = ['--profile-name', PROFILE, '--email', 'me@example.org']
        run('verdi', 'profile', 'setup', 'core.psql_dos', '--non-interactive', *identity, *options)
        run('verdi', 'config', 'set', 'daemon.timeout', '60')
        run('verdi', 'config', 'set', 'warnings.rabbitmq_version', 'false')
        content = SETUP.read_text(encoding='utf-8').replace('CHECKOUT', str(ROOT))
        setup = self.folder / 'setup.yaml'
        setup.write_text(content.replace(WORK_OF_TESTS, str(self.work)), encoding='utf-8')
        unfinished = self.overrides.with_suffix('.part')
        run('aiida-e3relax', 'setup', '--config', str(setup), '--overrides', str(unfinished), '--no-test')
        unfinished.rename(self.overrides)

    def tear_down(self) -> None:
        """Stop the services, and remove them with the profile; what has been measured stays."""
        self.services.down()
        for path in (self.home, self.work):
            if path.exists():
                shutil.rmtree(path)
        self.overrides.unlink(missing_ok=True)

    # ------------------------------------------------------------ the daemon

    def start_daemon(self, workers: int = WORKERS) -> None:
        """Start the daemon with so many workers, if it does not run."""
        run('verdi', 'daemon', 'start', str(workers))

    def stop_daemon(self) -> None:
        """Stop the daemon, if it runs."""
        run('verdi', 'daemon', 'stop')

    def find_workers(self) -> list[psutil.Process]:
        """Return the workers of the daemon, the oldest first."""
        record = next((self.home / '.aiida' / 'daemon').glob('*.pid'), None)
        try:
            daemon = psutil.Process(int(record.read_text(encoding='utf-8'))) if record else None
            children = daemon.children() if daemon else []
            workers = [child for child in children if 'worker' in child.cmdline()]
        except psutil.NoSuchProcess:  # the daemon has ended, or a worker between two lines
            return []
        return sorted(workers, key=lambda worker: worker.create_time())

    def kill_worker(self) -> None:
        """End the oldest worker by SIGKILL; the daemon starts another one."""
        if workers := self.find_workers():
            with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
                workers[0].send_signal(signal.SIGKILL)

    # ------------------------------------------------------------ what is asked of the servers

    def read_newest_node(self) -> int:
        """Return the PK of the newest node, 0 where there is none."""
        with psycopg.connect(dbname=DATABASE) as connection:
            row = connection.execute('SELECT coalesce(max(id), 0) FROM db_dbnode').fetchone()
        assert row is not None
        return int(row[0])

    def feel_pulse(self) -> Pulse:
        """Return how the processes are now; raises psycopg.Error where the database does not answer."""
        query = """
            SELECT count(*) FILTER (WHERE NOT ended), count(*) FILTER (WHERE NOT ended AND paused),
                   concat(max(mtime), ' ', count(*))
            FROM (SELECT mtime, coalesce(attributes->>'process_state' = ANY(%s), false) AS ended,
                         coalesce((attributes->>'paused')::boolean, false) AS paused
                  FROM db_dbnode WHERE node_type LIKE 'process.%%') AS processes
        """
        with psycopg.connect(dbname=DATABASE) as connection:
            row = connection.execute(query, [list(ENDED)]).fetchone()
        assert row is not None  # counts always are
        return Pulse(*row)

    def read_jobs(self) -> list[SlurmJob]:
        """Return the jobs of this profile that SLURM has had, in their order."""
        told = run('squeue', '--states=all', '--noheader', '--sort=i', '--format=%i|%T|%Z')
        jobs = [SlurmJob(*line.split('|')) for line in told.splitlines()]
        return [job for job in jobs if Path(job.folder).is_relative_to(self.work)]

    def open_partition(self, is_open: bool) -> None:
        """Let the jobs of VASP's partition start, or only wait in it."""
        run('scontrol', 'update', f'PartitionName={PARTITION}', f'State={"UP" if is_open else "DOWN"}')

    # ------------------------------------------------------------ the disk of the jobs

    @contextlib.contextmanager
    def small_disk(self, megabytes: int) -> Iterator[None]:
        """Put the jobs' folder on a disk of that size."""
        run('mount', '-t', 'tmpfs', '-o', f'size={megabytes}m', 'tmpfs', str(self.work))
        try:
            yield
        finally:
            run('umount', '--lazy', str(self.work))

    def fill_disk(self) -> None:
        """Fill the disk of the jobs to the last byte."""
        with contextlib.suppress(OSError), (self.work / 'filler').open('wb', buffering=0) as filler:
            while True:
                filler.write(bytes(4096))

    def free_disk(self) -> None:
        """Undo `fill_disk`."""
        (self.work / 'filler').unlink()


def run(*command: str, log: Path | None = None) -> str:
    """Run a command, return what it prints, and raise RuntimeError where it fails."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if log:
        with log.open('a', encoding='utf-8') as handle:
            handle.write(f'$ {" ".join(command)}\n{done.stdout}{done.stderr}\n')
    if done.returncode:
        raise RuntimeError(f'`{" ".join(command)}` has failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}')
    return done.stdout
