"""Fixtures shared by the tests: a profile whose daemon works, crystals, codes and the model."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

# Processes that tests start take one thread each; other tests run beside them.
os.environ.setdefault('OMP_NUM_THREADS', '1')
# Importing aiida makes a configuration folder, and its daemon looks for `verdi` on the PATH.
os.environ['AIIDA_PATH'] = tempfile.mkdtemp(prefix='aiida-e3relax-tests-')
os.environ['PATH'] = os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])
# With it, each of the processes that tests start compiles what it imports.
os.environ.pop('PYTHONDONTWRITEBYTECODE', None)

import ase.build
import ase.data
import pytest
from aiida import orm
from aiida.brokers.rabbitmq.defaults import detect_rabbitmq_config
from aiida.common.links import LinkType
from aiida.engine.daemon.client import DaemonClient, DaemonNotRunningException, get_daemon_client
from aiida.manage import get_manager
from aiida.orm.nodes.links import NodeLinks
from aiida.orm.utils.links import validate_link
from ase import Atoms
from hypothesis import HealthCheck, settings
from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

from aiida_e3relax.campaign.group import CampaignGroup
from aiida_e3relax.cli.resources import STANDIN_FAMILY, provide_potentials
from aiida_e3relax.data.model import E3RelaxModelData
from tests import fork_server

sys.dont_write_bytecode = False  # the same for this process, which assertions are rewritten in

# A busy machine is no fault of what is tested.
settings.register_profile('patient', deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile('patient')

pytest_plugins = 'aiida.tools.pytest_fixtures'

# Measured lattice constants at room temperature, in A.
CRYSTALS = {
    'Cu': lambda: ase.build.bulk('Cu', 'fcc', a=3.615),
    'Al': lambda: ase.build.bulk('Al', 'fcc', a=4.050),
    'MgO': lambda: ase.build.bulk('MgO', 'rocksalt', a=4.212),
    'NaCl': lambda: ase.build.bulk('NaCl', 'rocksalt', a=5.640),
    'GaAs': lambda: ase.build.bulk('GaAs', 'zincblende', a=5.653),
}

ELEMENTS = [
    ase.data.chemical_symbols[number]
    for number in (1, 6, 7, 8, 11, 12, 13, 14, 16, 17, 20, 22, 25, 26, 28, 29, 31, 33, 42, 46, 47, 50, 52, 78, 79)
]
"""Those that AiiDA knows potentials for in the tests: all of them take 10 s to store."""

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[1]
AIIDA_PATH = os.environ['AIIDA_PATH']
ENVIRONMENT = 'export E3RELAX_STANDIN_ENGINE=emt OMP_NUM_THREADS=1'
JOB_POLL_INTERVAL = 0.5  # s; without a pause AiiDA asks the scheduler all the time that a job runs
DAEMON_TIMEOUT = 20  # s; the 2 s of AiiDA are too short for a machine that is busy


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let tests run in PostgreSQL, and those with a daemon on another broker."""
    parser.addoption(
        '--storage',
        choices=['core.sqlite_dos', 'core.psql_dos'],
        default='core.sqlite_dos',
        help="of the tests' profile; PostgreSQL is that of $PGHOST and $PGPORT, in which $PGUSER may create databases "
        '(default: %(default)s)',
    )
    parser.addoption(
        '--broker',
        choices=['core.zeromq', 'core.rabbitmq'],
        default='core.zeromq',
        help="of the tests' profile; RabbitMQ is that at $AIIDA_BROKER_PORT, or its usual port (default: %(default)s)",
    )


def pytest_unconfigure() -> None:
    """Remove the folder that importing aiida made."""
    shutil.rmtree(AIIDA_PATH, ignore_errors=True)


def pytest_collection_finish() -> None:
    """Let the collector of garbage pass over what the imports left, millions of objects: a tenth of a chain's time."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@event.listens_for(Engine, 'connect')
def _write_without_waiting(connection: Any, _: object) -> None:
    """Let SQLite leave to the system when a database reaches the disk: nothing here outlives a power cut."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute('PRAGMA synchronous=OFF')


@event.listens_for(Session, 'after_transaction_create')
def _keep_what_was_read(session: Session, _: object) -> None:
    """AiiDA itself reads every field that may change anew; without this each commit has the others read again, too."""
    session.expire_on_commit = False


def _search_no_cycle_in_vain(search: Callable[..., None]) -> Callable[..., None]:
    """AiiDA walks the graph for a cycle before each link, a tenth of a chain's time; no link leaves a new node."""

    def validate_incoming(links: NodeLinks, source: orm.Node, link_type: LinkType, link_label: str) -> None:
        if links._node.is_stored:
            search(links, source, link_type, link_label)
        else:
            validate_link(source, links._node, link_type, link_label, backend=links._node.backend)

    return validate_incoming


NodeLinks.validate_incoming = _search_no_cycle_in_vain(NodeLinks.validate_incoming)


@pytest.fixture(scope='session')
def aiida_profile(aiida_config, aiida_profile_factory, pytestconfig, tmp_path_factory):
    """A temporary profile with a broker, so that tests can submit."""
    broker = pytestconfig.getoption('--broker')
    backends = {'broker_backend': broker}
    if broker == 'core.rabbitmq':
        backends |= {'broker_config': detect_rabbitmq_config()}
    with contextlib.ExitStack() as stack:
        if pytestconfig.getoption('--storage') == 'core.psql_dos':
            config = stack.enter_context(_database(tmp_path_factory.mktemp('repository')))
            backends |= {'storage_backend': 'core.psql_dos', 'storage_config': config}
        profile = stack.enter_context(aiida_profile_factory(aiida_config, **backends))
        # Of the sub-processes of a test profile AiiDA asks without a pause whether they have ended: a core at work for
        # nothing while a job runs. The broker tells, too; this is how `verdi presto` has it.
        loaded = get_manager().get_profile()  # another object
        loaded.is_test_profile = False
        loaded.set_option('runner.poll.interval', 1)
        loaded.set_option('daemon.timeout', DAEMON_TIMEOUT)
        aiida_config.update_profile(loaded)
        aiida_config.store()  # for the workers of a daemon
        yield profile


@contextlib.contextmanager
def _database(repository: Path) -> Iterator[dict[str, Any]]:
    """Make a database in PostgreSQL, and yield what AiiDA has to know of it."""
    if missing := [name for name in ('PGHOST', 'PGPORT', 'PGUSER', 'PGPASSWORD') if name not in os.environ]:
        raise pytest.UsageError(
            f'--storage core.psql_dos: expected {", ".join(missing)} in the environment; `make services` names the '
            'file to source'
        )
    name = f'test-{uuid4().hex[:8]}'
    subprocess.run(['createdb', name], check=True)
    try:
        yield {
            'database_engine': 'postgresql_psycopg',
            'database_hostname': os.environ['PGHOST'],
            'database_port': int(os.environ['PGPORT']),
            'database_username': os.environ['PGUSER'],
            'database_password': os.environ['PGPASSWORD'],
            'database_name': name,
            'repository_uri': repository.as_uri(),
        }
    finally:
        subprocess.run(['dropdb', '--force', name], check=True)


@pytest.fixture(scope='module', autouse=True)
def _campaigns_of_one_file() -> Iterator[None]:
    """Campaigns and their groups go when a file of tests ends: the profile, and so each name, is shared with others."""
    yield
    if get_manager().get_profile() is not None:
        for pk in orm.QueryBuilder().append(CampaignGroup, project='id').all(flat=True):
            orm.Group.collection.delete(pk)


@pytest.fixture(autouse=True)
def _arithmetic_of_one_test() -> Iterator[None]:
    """Subnormal numbers count again after a test of a command that flushes them for its process."""
    yield
    if 'torch' in sys.modules:
        sys.modules['torch'].set_flush_denormal(False)


@pytest.fixture(scope='module')
def daemon_client(aiida_profile) -> Iterator[DaemonClient]:
    """The daemon of the profile; at the end of a module it is stopped, as a daemon at rest takes 4 % of a core."""
    client = get_daemon_client(aiida_profile.name)
    yield client
    with contextlib.suppress(DaemonNotRunningException):
        client.stop_daemon(wait=True)


@pytest.fixture
def make_structure() -> Callable[..., orm.StructureData]:
    """A factory of unstored structures: by name out of `CRYSTALS`, or from ASE atoms."""

    def make(crystal: str | Atoms) -> orm.StructureData:
        return orm.StructureData(ase=CRYSTALS[crystal]() if isinstance(crystal, str) else crystal)

    return make


@pytest.fixture(scope='session')
def find_program(tmp_path_factory) -> Iterator[Callable[[str], Path]]:
    """A function that returns the path of an installed script, or of what a fork server runs in its place."""
    folder = tmp_path_factory.mktemp('programs')
    address = folder / 'server'
    command = [sys.executable, fork_server.__file__, str(address)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as server:
        assert server.stdout.readline(), 'the fork server does not start'
        clients = {
            name: fork_server.write_client(folder, name, address) for name in ('e3relax', 'e3relax-vasp-standin')
        }
        yield lambda name: clients.get(name, BIN / name)
        server.communicate()  # it ends with its input


@pytest.fixture
def make_code(aiida_computer_local, find_program) -> Callable[..., orm.InstalledCode]:
    """A factory of stored codes on this machine: by the name of an installed script, or the path of an executable."""

    def make(executable: str | Path, label: str, plugin: str, prepend_text: str = '') -> orm.InstalledCode:
        path = find_program(executable) if isinstance(executable, str) else executable
        computer = aiida_computer_local(label='localhost')
        computer.set_minimum_job_poll_interval(JOB_POLL_INTERVAL)
        # A login shell reads the user's profile, which takes as long as a small job does; a chain asks for twenty.
        computer.configure(use_login_shell=False)
        code = orm.InstalledCode(
            computer=computer,
            filepath_executable=str(path),
            label=label,
            default_calc_job_plugin=plugin,
            prepend_text=prepend_text,
        )
        return code.store()

    return make


@pytest.fixture
def e3relax_code(make_code) -> orm.InstalledCode:
    """The network's program."""
    return make_code('e3relax', 'e3relax', 'e3relax.predict')


@pytest.fixture
def model(aiida_profile) -> E3RelaxModelData:
    """The checkpoint that comes with the package."""
    return E3RelaxModelData.default()


@pytest.fixture
def potential_family(aiida_profile) -> str:
    """The stand-in's potentials of `ELEMENTS`, uploaded once into the profile."""
    provide_potentials(ELEMENTS)
    return STANDIN_FAMILY


@pytest.fixture
def standin_code(make_code, tmp_path) -> orm.InstalledCode:
    """The VASP stand-in with effective medium theory, under a label of this test's own."""
    return make_code('e3relax-vasp-standin', f'vasp-{tmp_path.name}', 'vasp.vasp', prepend_text=ENVIRONMENT)


@pytest.fixture
def make_scripted_code(make_code, find_program, tmp_path) -> Callable[..., orm.InstalledCode]:
    """A factory of codes that run shell lines first and then, unless these exit, the program."""

    def make(lines: str, program: str, plugin: str) -> orm.InstalledCode:
        script = tmp_path / f'{program}.sh'
        script.write_text(f'#!/bin/bash\n{lines}\nexec {find_program(program)} "$@"\n', encoding='utf-8')
        script.chmod(0o755)
        return make_code(script, f'scripted-{program}', plugin, prepend_text=ENVIRONMENT)

    return make


@pytest.fixture(scope='session')
def run_in(tmp_path_factory) -> Callable[..., subprocess.CompletedProcess]:
    """A function that runs a script of this environment in the repository, with another folder as the AiiDA path."""

    def run(aiida_path: Path, command: str, *arguments: object) -> subprocess.CompletedProcess:
        environment = os.environ | {'AIIDA_PATH': str(aiida_path), 'COLUMNS': '200'}
        words = [str(BIN / command), *map(str, arguments)]
        return subprocess.run(words, capture_output=True, text=True, check=False, env=environment, cwd=ROOT)

    return run


@pytest.fixture(scope='session')
def prepared(run_in, tmp_path_factory) -> tuple[Path, str]:
    """The AiiDA path of a profile that `aiida-e3relax setup` prepared, and what it printed.

    Of the workers that pytest runs side by side, one prepares it for all; each has a copy of its own.
    """
    base = tmp_path_factory.getbasetemp()
    original = (base.parent if 'PYTEST_XDIST_WORKER' in os.environ else base) / 'prepared'
    with original.with_suffix('.lock').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        printed = original / 'printed.txt'
        if not printed.exists():
            printed.write_text(_prepare(run_in, original), encoding='utf-8')
    path = tmp_path_factory.mktemp('first-run')
    shutil.copytree(original, path, dirs_exist_ok=True)
    config = path / '.aiida' / 'config.json'
    config.write_text(config.read_text().replace(str(original), str(path)))
    return path, printed.read_text(encoding='utf-8')


def _prepare(run_in: Callable[..., subprocess.CompletedProcess], path: Path) -> str:
    """Make a profile in a folder, prepare it, and return what that printed.

    What another worker has left that could not is removed, so that each says why.
    """
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    options = ['--profile-name', 'first-run', '--email', 'first@run', '--broker', 'core.zeromq', '--non-interactive']
    profile = run_in(path, 'verdi', 'profile', 'setup', 'core.sqlite_dos', *options)
    assert profile.returncode == 0, profile.stderr
    setup = run_in(path, 'aiida-e3relax', 'setup', '--engine', 'emt', '--engine', 'ionic', '--pre-relaxer', 'network')
    assert setup.returncode == 0, setup.stderr
    return setup.stdout
