"""`aiida-e3relax setup --interactive`: the answers make a file that can be read."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from aiida_e3relax.cli.setup import setup
from aiida_e3relax.cli.setup_file import questions
from aiida_e3relax.cli.setup_file.settings import SetupSettings, parse_setup


@click.command()
def ask() -> None:
    click.echo(f'---{questions.ask_setup()}')


@pytest.fixture
def answer(monkeypatch):
    """A function that gives answers, one a question, and returns what the file says."""
    monkeypatch.setattr(questions.shutil, 'which', lambda name: None)
    monkeypatch.setattr(questions.importlib.util, 'find_spec', lambda name: None)

    def give(*answers: str) -> SetupSettings:
        done = CliRunner().invoke(ask, input='\n'.join(answers) + '\n', catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return parse_setup(done.output.split('---')[1], 'answers', Path('/somewhere'))

    return give


def test_defaults_are_a_laptop_with_the_stand_in(answer):
    settings = answer('', '', '', '', '')
    assert list(settings.computers) == ['localhost']
    assert list(settings.codes) == ['e3relax@localhost', 'vasp-standin-emt@localhost']
    assert settings.codes['e3relax@localhost'].device == 'auto'
    assert (list(settings.potentials), settings.models) == (['standin-PBE'], ['default'])


def test_a_workstation_with_vasp(answer, tmp_path):
    settings = answer(
        'here', 'y', 'chgnet', '/opt/vasp/bin/vasp_std', 'mpiexec -n {tot_num_mpiprocs}', '8', 'PBE.54', str(tmp_path)
    )
    network, vasp = settings.codes['e3relax@workstation'], settings.codes['vasp@workstation']
    assert (network.device, network.prepend_text, network.pre_relaxer) == ('cuda', questions.LOCK, 'chgnet')
    assert (vasp.executable, vasp.options['resources']['num_mpiprocs_per_machine']) == ('/opt/vasp/bin/vasp_std', 8)
    assert settings.computers['workstation'].mpirun_command == 'mpiexec -n {tot_num_mpiprocs}'
    assert vasp.prepend_text == questions.VASP_LOCK
    assert settings.potentials['PBE.54'].path == str(tmp_path)


def test_a_cluster(answer):
    settings = answer(
        'cluster',
        'daint',  # its label
        'daint.example.org',
        'core.slurm',
        '128',
        '',  # the folder
        '',  # mpirun
        'my-project',
        '/home/me/bin/e3relax',
        'nonsense',  # who pre-relaxes, asked again
        'network',
        'gpu',
        'y',
        '',  # the line of SLURM
        '/apps/vasp_std',
        'cpu',
        'module load vasp',
        'PBE.64',
        '',
    )
    computer = settings.computers['daint']
    assert (computer.hostname, computer.connection) == ('daint.example.org', {'host': 'daint.example.org'})
    assert (computer.mpirun_command, computer.mpiprocs_per_machine) == ('srun -n {tot_num_mpiprocs}', 128)
    assert settings.codes['e3relax@daint'].device == 'cuda'
    assert settings.codes['e3relax@daint'].options == {
        'account': 'my-project',
        'queue_name': 'gpu',
        'num_gpus': 1,
        'max_wallclock_seconds': 3600,
    }
    assert settings.codes['vasp@daint'].options == {
        'account': 'my-project',
        'queue_name': 'cpu',
        'resources': {'num_machines': 1, 'num_mpiprocs_per_machine': 128},
    }
    assert settings.codes['vasp@daint'].prepend_text == 'module load vasp'


def test_the_file_is_shown_written_and_used(aiida_profile, monkeypatch, tmp_path):
    """Answers that ask for nothing new, so that the profile stays as it is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(questions, 'ask_setup', lambda: 'computers: {setup-asked: {hostname: a}}\n')
    done = CliRunner().invoke(setup, ['--interactive'], input='mine.yaml\n')
    assert 'computers: {setup-asked' in done.output
    assert (tmp_path / 'mine.yaml').read_text(encoding='utf-8').startswith('computers:')
    assert "setup-asked: expected the setting 'transport', found none" in done.output
    again = CliRunner().invoke(setup, ['--interactive'], input='mine.yaml\nn\n')
    assert 'mine.yaml is there; overwrite it' in again.output
    assert again.exit_code == 1
