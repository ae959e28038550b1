"""Whether the scheduler would take VASP's jobs: the script that SLURM is asked about, and what its answers come to."""

from __future__ import annotations

import os

import pytest
from aiida import orm

from aiida_e3relax.cli.setup_file.checks import FAILED, NOT_TESTED, PASSED, CheckError
from aiida_e3relax.cli.setup_file.scheduler_test import ask_slurm, check_scheduler, write_script

OPTIONS = {
    'queue_name': 'cpu',
    'account': 'my-project',
    'qos': 'long',
    'resources': {'num_machines': 2, 'num_mpiprocs_per_machine': 64},
    'custom_scheduler_commands': '#SBATCH --constraint=milan',
    'prepend_text': '#SBATCH --exclusive',
}
SBATCH = """#!/bin/bash
# As SLURM 22.05 answers: what it says goes to the standard error.
test "$*" = --test-only || exit 3
if grep -q 'partition=cpu$' > /dev/null; then
    echo 'sbatch: Job 55 to start at 2026-11-29T21:49:35 using 128 processors on nodes n[1-2] in partition cpu' >&2
else
    echo 'sbatch: error: invalid partition specified: wrong' >&2
    echo 'allocation failure: Invalid partition name specified' >&2
    exit 1
fi
"""


@pytest.fixture
def make_code(aiida_computer, tmp_path, monkeypatch):
    """A factory of VASP codes on a computer with a scheduler, whose `sbatch` is scripted."""
    program = tmp_path / 'bin' / 'sbatch'
    program.parent.mkdir()
    program.write_text(SBATCH, encoding='utf-8')
    program.chmod(0o755)
    monkeypatch.setenv('PATH', f'{program.parent}:{os.environ["PATH"]}')

    def make(scheduler: str) -> orm.InstalledCode:
        computer = aiida_computer(
            label=f'setup-{scheduler}',
            hostname='localhost',
            transport_type='core.local',
            scheduler_type=scheduler,
            configuration_kwargs={'use_login_shell': False, 'safe_interval': 0},
        )
        names = {'default_calc_job_plugin': 'vasp.vasp', 'filepath_executable': '/bin/true', 'computer': computer}
        return orm.InstalledCode(label='vasp', prepend_text='module load vasp', **names)

    return make


def test_the_script_asks_as_chains_do(make_code):
    script = write_script(make_code('core.slurm'), OPTIONS)
    assert script.startswith('#!')
    for line in (
        '#SBATCH --partition=cpu',
        '#SBATCH --account=my-project',
        '#SBATCH --qos=long',
        '#SBATCH --nodes=2',
        '#SBATCH --ntasks-per-node=64',
        '#SBATCH --time=1-00:00:00',  # of the protocol
        '#SBATCH --constraint=milan',
    ):
        assert line in script.splitlines()
    assert script.index('module load vasp') < script.index('#SBATCH --exclusive')
    assert '/bin/true' not in script


def test_slurm_takes_it_or_refuses(make_code):
    code = make_code('core.slurm')
    taken = check_scheduler(code, OPTIONS)
    assert (taken.kind, taken.state) == ('scheduler', PASSED)
    assert taken.found.startswith('Job 55 to start at')
    refused = check_scheduler(code, OPTIONS | {'queue_name': 'wrong'})
    assert refused.state == FAILED
    assert refused.found == (
        'SLURM refuses its jobs: error: invalid partition specified: wrong; '
        'allocation failure: Invalid partition name specified'
    )
    assert '`options` of vasp@setup-core.slurm in the file: `queue_name`' in refused.remedy


def test_options_that_contradict_each_other(make_code):
    resources = {'num_machines': 2, 'tot_num_mpiprocs': 7}
    with pytest.raises(CheckError, match='AiiDA makes no script of its jobs'):
        ask_slurm(make_code('core.slurm'), {'resources': resources})


def test_other_schedulers_are_not_asked(make_code):
    assert check_scheduler(make_code('core.pbspro'), OPTIONS).state == NOT_TESTED
    assert check_scheduler(make_code('core.direct'), OPTIONS) is None
