"""Services for tests on one machine: PostgreSQL, RabbitMQ, SLURM with a GPU that is only counted, and an SSH server.

    python3 tests/services/services.py up      # installs what is missing, starts what does not run
    python3 tests/services/services.py status  # exit status 1 unless all of them run
    python3 tests/services/services.py down    # ends what `up` started, and removes its folder

Root and Debian's packages are all that it takes; nothing is left to systemd. All data, keys and logs are in one folder,
/tmp/e3relax-services. The servers listen on 127.0.0.1 alone, at ports of their own beside whatever else runs there.

A second set runs beside them with another folder in E3RELAX_SERVICES, and a number in E3RELAX_SERVICES_SHIFT that is
added to each port.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import shutil
import signal
import socket
import string
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

FOLDER = Path(os.environ.get('E3RELAX_SERVICES', '/tmp/e3relax-services'))
CONFIG = Path(__file__).parent / 'config'
HOST = socket.gethostname().partition('.')[0]
SHIFT = int(os.environ.get('E3RELAX_SERVICES_SHIFT', '0'))
PORTS = {
    'POSTGRESQL_PORT': 25432 + SHIFT,
    'EPMD_PORT': 24369 + SHIFT,
    'RABBITMQ_PORT': 25670 + SHIFT,
    'SLURMCTLD_PORT': 26817 + SHIFT,
    'SLURMD_PORT': 26818 + SHIFT,
    'SSH_PORT': 20022 + SHIFT,
}
RABBITMQ_NODE_PORT = PORTS['RABBITMQ_PORT'] + 1  # on which its own tools reach it
PACKAGES = {
    'initdb': 'postgresql',
    'rabbitmq-server': 'rabbitmq-server',
    'munged': 'munge',
    'slurmctld': 'slurmctld',
    'slurmd': 'slurmd',
    'sbatch': 'slurm-client',
    'sshd': 'openssh-server',
    'ssh': 'openssh-client',
}
"""Debian's package of each program."""

TIMEOUT = 60.0  # s, for a service to start, or to end
PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
PRIVILEGES = Path('/run/sshd')
"""The one folder outside `FOLDER`: every SSH server of Debian wants it, and it stays empty."""


class ServiceError(Exception):
    """What is wrong, and what to do."""


@dataclasses.dataclass(frozen=True)
class Service:
    """A server.

    Attributes
    ----------
    name
        Of its log, and of the file with the number of its process.
    command
        Runs it in the foreground.
    is_ready
        Whether it answers.
    ports
        That it listens on.
    environment
        Beside the path of the programs; nothing else is passed on.
    user
        As whom it runs.
    end
        The signal upon which it ends in an orderly way.
    """

    name: str
    command: list[str]
    is_ready: Callable[[], bool]
    ports: tuple[int, ...] = ()
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    user: str = 'root'
    end: signal.Signals = signal.SIGTERM

    @property
    def log(self) -> Path:
        return FOLDER / 'logs' / f'{self.name}.log'

    @property
    def record(self) -> Path:
        return FOLDER / 'processes' / self.name

    def find_process(self) -> int | None:
        """Return the process that `start` made, if it still runs: its number may be another's by now."""
        with contextlib.suppress(FileNotFoundError):
            number, _, began = self.record.read_text(encoding='utf-8').partition(' ')
            if began == _read_start(int(number)):
                return int(number)
        return None

    def start(self) -> None:
        """Start it and wait until it answers; raises ServiceError."""
        for port in self.ports:
            _check_port(port, self.name)
        with self.log.open('ab') as log:
            process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd='/',
                env=_environment() | self.environment,
                start_new_session=True,
                user=self.user,
                group=self.user,
                extra_groups=[],
            )
        self.record.write_text(f'{process.pid} {_read_start(process.pid)}', encoding='utf-8')
        if not _wait(lambda: process.poll() is not None or self.is_ready()) or process.poll() is not None:
            last = '\n'.join(self.log.read_text(encoding='utf-8', errors='replace').splitlines()[-15:])
            raise ServiceError(f'{self.name} does not start; the end of {self.log}:\n{last}')

    def stop(self) -> None:
        """End it, and what it started itself."""
        if (process := self.find_process()) is None:
            return
        started = {number: _read_start(number) for number in _find_descendants(process)}
        with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
            os.kill(process, self.end)
        _wait(lambda: self.find_process() is None)
        for number, began in started.items():
            if began is not None and began == _read_start(number):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)


# ---------------------------------------------------------------- small things


def _read_stat(process: int) -> list[str] | None:
    """Return what Linux tells of a process from its state on, as in proc(5), or None where it has ended."""
    try:
        fields = Path(f'/proc/{process}/stat').read_text(encoding='utf-8').rpartition(')')[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == 'Z' else fields


def _read_start(process: int) -> str | None:
    """Return when a process began, in ticks since the machine did, or None where it has ended."""
    stat = _read_stat(process)
    return None if stat is None else stat[19]


def _find_descendants(process: int) -> list[int]:
    """Return a process, those that it started, and so on."""
    children: dict[int, list[int]] = {}
    for number in (int(path.name) for path in Path('/proc').iterdir() if path.name.isdecimal()):
        if stat := _read_stat(number):
            children.setdefault(int(stat[1]), []).append(number)
    found = [process]
    for number in found:  # which grows
        found += children.get(number, [])
    return found


def _wait(is_true: Callable[[], bool]) -> bool:
    """Return whether something comes true in time."""
    end = time.monotonic() + TIMEOUT
    while not (found := is_true()) and time.monotonic() < end:
        time.sleep(0.2)
    return found


def _check_port(port: int, name: str) -> None:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(('127.0.0.1', port))
        except OSError as error:
            raise ServiceError(
                f'{name} needs port {port} of 127.0.0.1, which another program has (`ss -ltnp` tells which): end that'
            ) from error


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(('127.0.0.1', port), timeout=1):
        return True
    return False


def _environment() -> dict[str, str]:
    return {'PATH': f'{_find_postgresql()}:{PATH}', 'LANG': 'C.UTF-8', 'SLURM_CONF': str(FOLDER / 'slurm/slurm.conf')}


def _find_postgresql() -> Path:
    """Return the folder of the newest PostgreSQL's programs, which Debian keeps out of the path."""
    versions = Path('/usr/lib/postgresql').glob('*/bin')
    return max(versions, key=lambda path: float(path.parent.name), default=Path('/usr/lib/postgresql'))


def _run(*command: str | Path, user: str = 'root') -> str:
    """Run a command and return what it prints; raises ServiceError where it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        env=_environment(),
        cwd='/',
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        user=user,
        group=user,
        extra_groups=[],
    )
    if done.returncode:
        raise ServiceError(f'`{" ".join(map(str, command))}` has failed:\n{done.stdout}{done.stderr}')
    return done.stdout


def _succeeds(*command: str | Path) -> bool:
    with contextlib.suppress(ServiceError):
        _run(*command)
        return True
    return False


def _write_config(name: str, path: Path) -> None:
    """Write a file of `config/` with its names filled in."""
    names = PORTS | {'FOLDER': FOLDER, 'HOST': HOST, 'CPUS': os.cpu_count()}
    template = string.Template((CONFIG / name).read_text(encoding='utf-8'))
    path.write_text(template.substitute(names), encoding='utf-8')


def _make_folder(name: str, mode: int = 0o755) -> Path:
    path = FOLDER / name
    path.mkdir(exist_ok=True)
    path.chmod(mode)
    return path


# ---------------------------------------------------------------- the services


def prepare_postgresql() -> None:
    """Make a cluster of databases for the user `aiida`, with the password `aiida`, who may create databases."""
    data = FOLDER / 'postgresql'
    if (data / 'PG_VERSION').exists():
        return
    unfinished = data.with_suffix('.part')  # a run that is ended in its midst leaves this one
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    shutil.chown(unfinished, 'postgres', 'postgres')
    # Nothing here has to outlive a power cut.
    settings = ['--auth-local=peer', '--auth-host=scram-sha-256', '--encoding=UTF8', '--locale=C.UTF-8', '--no-sync']
    _run('initdb', '--pgdata', unfinished, *settings, user='postgres')
    unfinished.rename(data)


def finish_postgresql() -> None:
    """Make the user `aiida`."""
    ask: list[str | Path] = [
        'psql',
        '--host',
        FOLDER / 'postgresql',
        '--port',
        str(PORTS['POSTGRESQL_PORT']),
        '--no-align',
        '--tuples-only',
    ]
    if not _run(*ask, '--command', "SELECT 1 FROM pg_roles WHERE rolname = 'aiida'", user='postgres').strip():
        _run(*ask, '--command', "CREATE ROLE aiida LOGIN CREATEDB PASSWORD 'aiida'", user='postgres')


def postgresql() -> Service:
    """Return the database server."""
    data, port = FOLDER / 'postgresql', PORTS['POSTGRESQL_PORT']
    settings = {'listen_addresses': '127.0.0.1', 'port': port, 'unix_socket_directories': data, 'fsync': 'off'}
    return Service(
        'postgresql',
        [
            'postgres',
            '-D',
            str(data),
            *(word for name, value in settings.items() for word in ('-c', f'{name}={value}')),
        ],
        lambda: _succeeds('pg_isready', '--host', '127.0.0.1', '--port', str(port)),
        ports=(port,),
        user='postgres',
        end=signal.SIGINT,  # without it, it waits for the last connection
    )


def prepare_rabbitmq() -> None:
    """Write what the broker reads."""
    folder = _make_folder('rabbitmq')
    for name in ('rabbitmq.conf', 'advanced.config'):
        _write_config(name, folder / name)
    for name in ('environment', 'enabled_plugins'):
        (folder / name).write_text('[].\n' if name == 'enabled_plugins' else '', encoding='utf-8')


def epmd() -> Service:
    """Return what tells Erlang's programs where the broker is: left to itself, the broker starts one that stays."""
    port = PORTS['EPMD_PORT']
    command = ['epmd', '-port', str(port), '-address', '127.0.0.1']
    return Service('epmd', command, lambda: _answers(port), ports=(port,))


def rabbitmq() -> Service:
    """Return the broker; not by Debian's script, which would go on as another user."""
    folder, port = FOLDER / 'rabbitmq', PORTS['RABBITMQ_PORT']
    environment = {
        'HOME': folder,
        'ERL_EPMD_PORT': PORTS['EPMD_PORT'],
        'RABBITMQ_CONF_ENV_FILE': folder / 'environment',
        'RABBITMQ_CONFIG_FILE': folder / 'rabbitmq',
        'RABBITMQ_ADVANCED_CONFIG_FILE': folder / 'advanced.config',
        'RABBITMQ_ENABLED_PLUGINS_FILE': folder / 'enabled_plugins',
        'RABBITMQ_MNESIA_BASE': folder / 'data',
        'RABBITMQ_LOG_BASE': folder / 'logs',
        'RABBITMQ_PID_FILE': folder / 'pid',
        'RABBITMQ_NODENAME': 'e3relax@localhost',
        'RABBITMQ_DIST_PORT': RABBITMQ_NODE_PORT,
        'RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS': '-kernel inet_dist_use_interface {127,0,0,1}',
    }
    return Service(
        'rabbitmq',
        ['/usr/lib/rabbitmq/bin/rabbitmq-server'],
        lambda: _answers(port),
        ports=(port, RABBITMQ_NODE_PORT),
        environment={name: str(value) for name, value in environment.items()},
    )


def munge() -> Service:
    """Return what SLURM's programs know each other by."""
    folder = FOLDER / 'munge'
    files = {'key-file': 'key', 'socket': 'socket', 'pid-file': 'pid', 'log-file': 'log', 'seed-file': 'seed'}
    options = [f'--{option}={folder / name}' for option, name in files.items()]
    return Service(
        'munge',
        ['munged', '--foreground', '--force', *options],
        lambda: _succeeds('munge', '--no-input', '--socket', folder / 'socket'),
    )


def prepare_slurm() -> None:
    """Write the configuration of a node with a GPU, and of the partitions `gpu` and `cpu`."""
    key = _make_folder('munge') / 'key'
    if not key.exists():
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
    folder = _make_folder('slurm')
    for name in ('state', 'spool'):
        _make_folder(f'slurm/{name}')
    for name in ('slurm.conf', 'gres.conf', 'cgroup.conf'):
        _write_config(name, folder / name)


def slurmctld() -> Service:
    """Return the scheduler."""
    return Service(
        'slurmctld', ['slurmctld', '-D'], lambda: _succeeds('scontrol', 'ping'), ports=(PORTS['SLURMCTLD_PORT'],)
    )


def slurmd() -> Service:
    """Return what runs the jobs."""

    def is_ready() -> bool:
        with contextlib.suppress(ServiceError):
            return _run('sinfo', '--noheader', '--format=%T', '--partition=gpu').strip() in (
                'idle',
                'mixed',
                'allocated',
            )
        return False

    return Service('slurmd', ['slurmd', '-D'], is_ready, ports=(PORTS['SLURMD_PORT'],))


def prepare_ssh() -> None:
    """Make the keys of the server and of its one user, root, whose home for SSH and AiiDA is the folder's `home`."""
    folder = _make_folder('ssh', 0o700)
    _make_folder('home')
    client = _make_folder('home/.ssh', 0o700)
    for key in (folder / 'host_key', client / 'id_ed25519'):
        if not key.exists():
            _run('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', 'e3relax-services', '-f', key)
    shutil.copyfile(client / 'id_ed25519.pub', folder / 'authorized_keys')
    _write_config('sshd_config', folder / 'sshd_config')
    _write_config('ssh_config', client / 'config')
    port, public = PORTS['SSH_PORT'], (folder / 'host_key.pub').read_text(encoding='utf-8')
    (client / 'known_hosts').write_text(f'[127.0.0.1]:{port},[localhost]:{port} {public}', encoding='utf-8')
    if not PRIVILEGES.exists():
        PRIVILEGES.mkdir(mode=0o755)
        (folder / 'made-privileges').touch()


def sshd() -> Service:
    """Return the SSH server."""
    return Service(
        'sshd',
        ['/usr/sbin/sshd', '-D', '-e', '-f', str(FOLDER / 'ssh/sshd_config')],
        lambda: _succeeds('ssh', '-F', FOLDER / 'home/.ssh/config', '-o', 'BatchMode=yes', 'test-cluster', 'true'),
        ports=(PORTS['SSH_PORT'],),
    )


SERVICES = (postgresql(), epmd(), rabbitmq(), munge(), slurmctld(), slurmd(), sshd())
"""In the order in which they start."""

PREPARATIONS = (prepare_postgresql, prepare_rabbitmq, prepare_slurm, prepare_ssh)


# ---------------------------------------------------------------- commands


def install() -> None:
    """Install the packages that are missing; raises ServiceError."""
    found = _environment()['PATH']
    missing = [package for program, package in PACKAGES.items() if shutil.which(program, path=found) is None]
    if not missing:
        return
    if shutil.which('apt-get') is None:
        raise ServiceError(f'expected apt-get, of Debian and its like, to install {" ".join(missing)}; found none')
    print(f'installing {" ".join(missing)}', flush=True)
    environment = os.environ | {'DEBIAN_FRONTEND': 'noninteractive'}
    for words in (['update', '-qq'], ['install', '-qq', '--yes', '--no-install-recommends', *missing]):
        done = subprocess.run(
            ['apt-get', *words],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ServiceError(f'`apt-get {" ".join(words)}` has failed:\n{done.stdout}')


def check_root() -> None:
    """Raise ServiceError unless root runs this, and the folder is root's."""
    if os.geteuid():
        raise ServiceError('expected root, who can run a scheduler; run it as root, in a container perhaps')
    if FOLDER.is_symlink() or (FOLDER.exists() and (not FOLDER.is_dir() or FOLDER.stat().st_uid)):
        raise ServiceError(f'{FOLDER} is no folder of root; remove it')


def up() -> None:
    """Bring everything up; what runs already is left alone."""
    check_root()
    install()
    FOLDER.mkdir(exist_ok=True)
    FOLDER.chmod(0o755)
    for name in ('logs', 'processes'):
        _make_folder(name)
    for prepare in PREPARATIONS:
        prepare()
    _write_config('environment.sh', FOLDER / 'environment.sh')
    for service in SERVICES:
        if service.find_process() is None:
            began = time.monotonic()
            service.start()
            print(f'{service.name:<12} started in {time.monotonic() - began:.1f} s', flush=True)
        else:
            print(f'{service.name:<12} runs already', flush=True)
    finish_postgresql()
    print(f'everything is in {FOLDER}; for your shell: source {FOLDER}/environment.sh')


def down() -> None:
    """End what `up` started, and remove the folder."""
    check_root()
    if not FOLDER.exists():
        print(f'there is no {FOLDER}')
        return
    if slurmctld().find_process() is not None and _succeeds('scancel', '--user=root'):
        with contextlib.suppress(ServiceError):  # a server that does not answer is ended all the same
            _wait(lambda: not _run('squeue', '--noheader').strip())
    for service in reversed(SERVICES):
        service.stop()
    if (FOLDER / 'ssh/made-privileges').exists():
        PRIVILEGES.rmdir()
    shutil.rmtree(FOLDER)
    print(f'all have ended; {FOLDER} is removed')


def list_missing() -> list[str]:
    """Return the services that do not run or do not answer."""
    return [service.name for service in SERVICES if service.find_process() is None or not service.is_ready()]


def status() -> None:
    """Tell which services run; raises ServiceError unless all do."""
    if missing := list_missing():
        raise ServiceError(f'not running: {", ".join(missing)}; start them with `make services`')
    print(f'all run: {", ".join(service.name for service in SERVICES)}')


def main(arguments: Iterable[str] | None = None) -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = {'up': up, 'down': down, 'status': status}
    parser.add_argument('command', choices=list(commands))
    try:
        commands[parser.parse_args(arguments).command]()
    except ServiceError as error:
        sys.exit(f'services: {error}')


if __name__ == '__main__':
    main()
