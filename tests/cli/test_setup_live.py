"""The live test of `aiida-e3relax setup --config`: real jobs on this machine, well and not."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import click
import pytest
from aiida import orm

from aiida_e3relax.calculations.pre_relaxer import PreRelaxer
from aiida_e3relax.cli.resources import STANDIN_FAMILY
from aiida_e3relax.cli.setup_file.checks import CheckError
from aiida_e3relax.cli.setup_file.live_test import check_computer, check_executable, check_family
from aiida_e3relax.cli.setup_file.network_test import RETRIES, predict_crystals, try_potential
from aiida_e3relax.cli.setup_file.run import run_setup
from aiida_e3relax.cli.setup_file.settings import FamilySettings

FILE = """
computers:
  setup-live:
    {{hostname: localhost, transport: core.local, scheduler: {scheduler}, work_dir: {folder}, poll_interval: 0,
      connection: {{safe_interval: 0, use_login_shell: false}}}}
codes:
  e3relax@setup-live:
    {{plugin: e3relax.predict, executable: e3relax, pre_relaxer: network, options: {{max_wallclock_seconds: 600}}}}
  vasp@setup-live: {{plugin: vasp.vasp, executable: {vasp}}}
potentials: {{{family}: {{elements: [{elements}]}}}}
models: [default]
"""


@pytest.fixture
def write_file(tmp_path, potential_family):
    """A function that writes the file of a computer that runs its jobs here."""

    def write(scheduler: str = 'core.direct', elements: str = 'Si, O'):
        program = tmp_path / 'vasp_std'
        program.write_text('#!/bin/bash\n', encoding='utf-8')
        program.chmod(0o755)
        path = tmp_path / 'setup.yaml'
        text = FILE.format(
            scheduler=scheduler, folder=tmp_path, vasp=program, family=potential_family, elements=elements
        )
        path.write_text(text, encoding='utf-8')
        return path

    return write


@pytest.fixture(autouse=True)
def _own_computer(aiida_profile):
    """The computer of one test is out of the way of the next."""
    yield
    for computer in orm.Computer.collection.find({'label': 'setup-live'}):
        computer.label = f'setup-live-{computer.pk}'


def rows_of(output: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split('│')[1:-1]] for line in output.splitlines() if line.startswith('│')]


def test_all_is_made_tested_and_left_alone(write_file, tmp_path, monkeypatch, capfd):
    """A real prediction on this machine, and a second run that changes nothing."""
    monkeypatch.setenv('COLUMNS', '300')
    path = write_file()
    overrides = tmp_path / 'overrides.yaml'
    assert run_setup(path, 'test', is_dry=False, is_tested=True, overrides=overrides)
    found = {(kind, name): rest for kind, name, *rest in rows_of(capfd.readouterr().out) if len(rest) == 2}
    assert {result for result, _ in found.values()} == {'passed'}
    network = found['network', 'e3relax@setup-live'][1]
    assert network.startswith('cpu, ')
    assert '32 crystals in' in network
    assert float(network.split()[-2]) > 0
    assert network.endswith('crystals/s')
    assert ('computer', 'setup-live') in found
    assert ('executable', 'vasp@setup-live') in found
    assert found['potential family', STANDIN_FAMILY][1].endswith('elements')
    assert 'max_wallclock_seconds: 600' in overrides.read_text(encoding='utf-8')

    assert run_setup(path, 'test', is_dry=False, is_tested=False, overrides=overrides)
    assert {row[2] for row in rows_of(capfd.readouterr().out)} == {'was there'}
    overrides.write_text('another', encoding='utf-8')
    with pytest.raises(click.ClickException, match='another file is there'):
        run_setup(path, 'test', is_dry=False, is_tested=False, overrides=overrides)


def test_what_fails_is_told_with_what_to_do(write_file, tmp_path, monkeypatch, capfd):
    """Neither is the scheduler there nor the potential of an element; no job is tried where the computer has failed."""
    monkeypatch.setenv('COLUMNS', '300')
    path = write_file('core.pbspro', 'Si, Og')
    overrides = tmp_path / 'overrides.yaml'
    assert not run_setup(path, 'test', is_dry=False, is_tested=True, overrides=overrides)
    assert not overrides.exists()
    output = capfd.readouterr()
    assert f'is not written to {overrides}, as the live test has failed' in output.err
    results = {(row[0], row[1]): row[2] for row in rows_of(output.out) if len(row) == 4}
    assert results['computer', 'setup-live'] == 'failed'
    assert results['code', 'e3relax@setup-live'] == 'not tested'
    assert results['potential family', STANDIN_FAMILY] == 'failed'
    assert 'Getting number of jobs from scheduler... [Failed]' in output.err
    assert 'qstat' in output.err
    assert 'what to do: see `verdi computer test --print-traceback setup-live`' in output.err
    assert 'for Og' in output.err


def test_a_job_that_the_scheduler_does_not_take_ends(write_file, monkeypatch):
    monkeypatch.setitem(RETRIES, 'transport.task_retry_initial_interval', 1)
    run_setup(write_file('core.pbspro'), 'test', is_dry=False, is_tested=False, overrides=None)
    with pytest.raises(CheckError, match=r'the job \d+ did not run: .*qsub'):
        predict_crystals(orm.load_code('e3relax@setup-live'), 'auto', {})


def test_ctrl_c_ends_the_job(make_scripted_code, tmp_path):
    started = tmp_path / 'started'
    code = make_scripted_code(f'echo $$ > {started}; sleep 300', 'e3relax', 'e3relax.predict')

    def interrupt() -> None:
        while not started.exists() or not started.read_text(encoding='utf-8'):
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        predict_crystals(code, 'auto', {})
    thread.join()
    process = Path('/proc', started.read_text(encoding='utf-8').strip(), 'stat')
    for _ in range(100):
        if not process.exists() or process.read_text(encoding='utf-8').split()[2] == 'Z':
            break
        time.sleep(0.1)
    else:
        pytest.fail('the program still runs')


def test_a_gpu_that_is_not_there(e3relax_code):
    with pytest.raises(CheckError, match=r"\[320\] .*'cuda:17' is not there") as caught:
        predict_crystals(e3relax_code, 'cuda:17', {})
    assert 'let `options` of the code ask for a GPU' in caught.value.remedy


def test_a_potential_that_is_not_installed(make_scripted_code, model):
    report = '{"schema": 1, "error": {"code": "missing_package", "message": "needs the package sevenn"}}'
    code = make_scripted_code(f"echo '{report}' > report.json; exit 7", 'e3relax', 'e3relax.predict')
    with pytest.raises(CheckError, match=r'\[322\] .*needs the package sevenn') as caught:
        try_potential(code, PreRelaxer.parse('network+sevennet-mf-0'), 'auto', {})
    assert '`pip install sevenn`' in caught.value.remedy
    assert f'`aiida-e3relax pre-relaxer {code.full_label} network`' in caught.value.remedy


def test_programs_and_images_that_are_not_there(aiida_computer_local, tmp_path):
    computer = aiida_computer_local(label='localhost')
    names = {'default_calc_job_plugin': 'e3relax.predict', 'computer': computer}
    missing = orm.InstalledCode(label='setup-missing', filepath_executable=str(tmp_path / 'nothing'), **names)
    with pytest.raises(CheckError, match='does not exist on the computer'):
        check_executable(missing)
    container = {'engine_command': 'apptainer exec {image_name}', 'filepath_executable': 'e3relax', **names}
    image = tmp_path / 'e3relax.sif'
    code = orm.ContainerizedCode(label='setup-image', image_name=str(image), **container)
    with pytest.raises(CheckError, match='no image is at') as caught:
        check_executable(code)
    assert 'verdi code relabel setup-image@localhost' in caught.value.remedy
    image.touch()
    assert check_executable(code) == str(image)


def test_computers_that_cannot_be_tested(aiida_computer_local):
    with pytest.raises(CheckError, match='not there, or not configured'):
        check_computer('setup-nowhere')
    computer = aiida_computer_local(label='setup-disabled')
    computer.get_authinfo(orm.User.collection.get_default()).enabled = False
    with pytest.raises(CheckError, match='it is disabled') as caught:
        check_computer('setup-disabled')
    assert '`verdi computer enable setup-disabled' in caught.value.remedy


def test_families_that_are_not_there(aiida_profile):
    with pytest.raises(CheckError, match='it is not there'):
        check_family('setup-nothing', FamilySettings())
