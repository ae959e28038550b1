"""The questions of `aiida-e3relax setup --interactive`, and the file that the answers make."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path
from typing import Any

import click
import yaml

from aiida_e3relax.calculations.gpus import REQUESTS
from aiida_e3relax.calculations.pre_relaxer import NETWORK, PreRelaxer, check_default
from aiida_e3relax.cli.resources import STANDIN_CODE, STANDIN_EXECUTABLE, STANDIN_FAMILY, SUITED_POTENTIAL
from aiida_e3relax.cli.setup_file.settings import DEFAULT_MODEL, PREDICT, VASP

HERE = 'here'
CLUSTER = 'cluster'
OF_SLOTS = ('core.sge', 'core.lsf')
"""The schedulers whose jobs ask for processes otherwise than by nodes: what they ask for is to be filled in."""
SCHEDULERS = ('core.slurm', 'core.pbspro', 'core.torque', 'core.sge', 'core.lsf', 'core.direct')
LOCK = """gpus=$(nvidia-smi --query-gpu=uuid --format=csv,noheader) && [ -n "$gpus" ] || exit 1
gpu=
until [ -n "$gpu" ]; do
  for one in $gpus; do
    exec 9>"$HOME/.e3relax-$one.lock" || exit 1
    flock --nonblock 9 && gpu=$one && break
  done
  [ -n "$gpu" ] || sleep 1
done
export CUDA_VISIBLE_DEVICES=$gpu
"""
"""Lets a job take a GPU that no other has, and wait for one: `core.direct` starts each job at once."""
VASP_LOCK = 'exec 9>"$HOME/.e3relax-vasp.lock" && flock 9 || exit 1\nexport OMP_NUM_THREADS=1\n'
"""Lets the jobs of VASP take turns."""

STANDINS = ('emt', 'ionic')
"""Those that need no other package."""

GPU_LINES = {'core.sge': '#$ -l gpu=1'}


def ask_setup() -> str:
    """Ask where jobs run and what is there, and return the file, as YAML."""
    where = click.prompt(
        'Where do the jobs run, on this machine or on a cluster', type=click.Choice([HERE, CLUSTER]), default=HERE
    )
    content = _ask_here() if where == HERE else _ask_cluster()
    content['models'] = [DEFAULT_MODEL]
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _ask_here() -> dict[str, Any]:
    """Ask for this machine: `localhost` as `verdi presto` makes it, or for VASP a computer that starts MPI programs."""
    network: dict[str, Any] = {'plugin': PREDICT, 'executable': 'e3relax'}
    if click.confirm('Has it a GPU for the network', shutil.which('nvidia-smi') is not None):
        network |= {'prepend_text': LOCK, 'device': 'cuda'}
    installed = importlib.util.find_spec('sevenn') is not None
    network['pre_relaxer'] = _ask_pre_relaxer(SUITED_POTENTIAL if installed else NETWORK)
    computer: dict[str, Any] = {
        'hostname': 'localhost',
        'transport': 'core.local',
        'scheduler': 'core.direct',
        'connection': {'safe_interval': 0},
    }
    executable = _ask_text("Path of VASP's program; leave it empty to take the stand-in that comes with this package")
    if executable:
        label = 'workstation'
        computer['mpirun_command'] = click.prompt('What starts MPI programs', default='mpirun -np {tot_num_mpiprocs}')
        cores = click.prompt('MPI processes of a VASP run', type=click.IntRange(min=1), default=os.cpu_count() or 1)
        computer['mpiprocs_per_machine'] = cores
        resources = {'num_machines': 1, 'num_mpiprocs_per_machine': cores}
        vasp = {f'vasp@{label}': _vasp(executable, {'resources': resources}, VASP_LOCK)}
        potentials = _ask_potentials()
    else:
        label = 'localhost'
        computer |= {'mpiprocs_per_machine': 1, 'poll_interval': 1}
        engine = click.prompt('What computes behind the stand-in', type=click.Choice(STANDINS), default=STANDINS[0])
        vasp = {
            f'{STANDIN_CODE.format(engine=engine)}@{label}': {
                'plugin': VASP,
                'executable': STANDIN_EXECUTABLE,
                'with_mpi': False,
                'prepend_text': f'export E3RELAX_STANDIN_ENGINE={engine}; export OMP_NUM_THREADS=1',
            }
        }
        potentials = {STANDIN_FAMILY: {}}
    return {
        'computers': {label: computer},
        'codes': {f'e3relax@{label}': network, **vasp},
        'potentials': potentials,
    }


def _ask_cluster() -> dict[str, Any]:
    """Ask for a cluster."""
    label = click.prompt('What AiiDA shall call it', default='cluster')
    hostname = click.prompt('Its name for ssh: `ssh NAME` has to work without a password')
    scheduler = click.prompt('Its scheduler', type=click.Choice(SCHEDULERS), default=SCHEDULERS[0])
    cores = click.prompt('Cores of a node for VASP', type=click.IntRange(min=1))
    computer: dict[str, Any] = {
        'hostname': hostname,
        'transport': 'core.ssh_async',
        'scheduler': scheduler,
        'work_dir': click.prompt('Folder for the jobs', default='/scratch/{username}/aiida'),
        'mpirun_command': click.prompt(
            'What starts MPI programs',
            default='srun -n {tot_num_mpiprocs}' if scheduler == 'core.slurm' else 'mpirun -np {tot_num_mpiprocs}',
        ),
        'mpiprocs_per_machine': cores,
        'connection': {'host': hostname},
    }
    account = _ask_text('Account or project that jobs are charged to; empty for none')
    network: dict[str, Any] = {
        'plugin': PREDICT,
        'executable': click.prompt('Path of e3relax there, such as /home/me/e3relax/bin/e3relax'),
        'pre_relaxer': _ask_pre_relaxer(NETWORK),
    }
    options: dict[str, Any] = {'account': account}
    options['queue_name'] = _ask_text('Partition or queue of the network; empty for the default one')
    if click.confirm('Has it GPUs for the network', True):
        network['device'] = 'cuda'
        usual = REQUESTS.get(scheduler, '').format(count=1)
        unless = f'; empty for the usual {usual}' if usual else ''
        line = _ask_text(f'Line by which a job asks for a GPU{unless}', GPU_LINES.get(scheduler, ''))
        options |= {'custom_scheduler_commands': line} if line or not usual else {'num_gpus': 1}
    network['options'] = _filled(options) | {'max_wallclock_seconds': 3600}
    executable = click.prompt("Path of VASP's program there, such as /apps/vasp/bin/vasp_std")
    queue = _ask_text('Partition or queue of VASP; empty for the default one')
    prepend_text = _ask_text('Shell commands before VASP, such as `module load vasp`; empty for none')
    asked: dict[str, Any] = {'account': account, 'queue_name': queue}
    if scheduler not in OF_SLOTS:
        asked['resources'] = {'num_machines': 1, 'num_mpiprocs_per_machine': cores}
    vasp = _vasp(executable, _filled(asked), prepend_text)
    return {
        'computers': {label: computer},
        'codes': {f'e3relax@{label}': network, f'vasp@{label}': vasp},
        'potentials': _ask_potentials(),
    }


def _ask_text(question: str, default: str = '') -> str:
    return click.prompt(question, default=default, show_default=bool(default)).strip()


def _ask_pre_relaxer(default: str) -> str:
    """Ask who pre-relaxes, until it is someone known."""

    def read(text: str) -> str:
        try:
            pre_relaxer = PreRelaxer.parse(text.strip())
            check_default(pre_relaxer)
            return str(pre_relaxer)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error

    return click.prompt(
        "Who makes VASP's start: network, or a potential that is installed there", default, value_proc=read
    )


def _ask_potentials() -> dict[str, Any]:
    label = click.prompt('Name of the family of potentials in AiiDA', default='PBE.64')
    path = _ask_text('Folder or archive of POTCARs to make it of; empty if AiiDA has it')
    return {label: {'path': str(Path(path).expanduser().absolute())} if path else {}}


def _vasp(executable: str, options: dict[str, Any], prepend_text: str = '') -> dict[str, Any]:
    code = {'plugin': VASP, 'executable': executable, 'prepend_text': prepend_text, 'options': options}
    return _filled(code)


def _filled(mapping: dict[str, Any]) -> dict[str, Any]:
    """Return what has a value."""
    return {name: value for name, value in mapping.items() if value}
