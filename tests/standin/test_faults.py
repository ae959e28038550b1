"""The faults on demand: what is left of the files, that they say so, and that nothing fails unasked."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ase.build import bulk
from click.testing import CliRunner

from aiida_e3relax.standin.cli import main
from aiida_e3relax.standin.faults import LAST_STEP, Fault

SAID = 'is injected on purpose'
FILES = ('OUTCAR', 'CONTCAR', 'vasprun.xml')
STANDIN = Path(sys.executable).with_name('e3relax-vasp-standin')
KILLED = (Fault.KILLED, Fault.KILLED_EARLY, Fault.KILLED_WRITING)


@pytest.fixture
def copper(write_inputs):
    """Inputs of strained copper, which relaxes in more steps than a run with a fault does."""
    atoms = bulk('Cu', cubic=True)
    atoms.rattle(0.1, seed=2)
    return write_inputs(atoms, {'NSW': 50, 'IBRION': 2, 'EDIFFG': -0.01, 'NELM': 7})


@pytest.fixture
def run_with(copper, monkeypatch):
    """Run with a fault, in a process of its own where that is killed, and return its exit code and what it said."""
    monkeypatch.chdir(copper)

    def run(fault, *options):
        arguments = ['--engine', 'emt', '--fault', str(fault), *map(str, options)]
        if fault in KILLED:
            process = subprocess.run([STANDIN, *arguments], text=True, capture_output=True, check=False)
            return process.returncode, process.stdout
        result = CliRunner().invoke(main, arguments)
        return result.exit_code, result.output

    return run


def ionic_steps(folder) -> int:
    return (folder / 'OUTCAR').read_text().count('TOTAL-FORCE')


@pytest.mark.parametrize('fault', list(Fault))
def test_a_fault_says_that_it_is_injected(copper, run_with, fault):
    exit_code, output = run_with(fault)
    told = output + ''.join((copper / name).read_text() for name in FILES if (copper / name).exists())
    assert f'the fault `{fault}` {SAID}' in told
    assert exit_code == (-signal.SIGKILL if fault in KILLED else 1 if fault is Fault.UNFINISHED else 0)


def test_no_fault_without_asking(run_standin, copper):
    assert SAID not in run_standin(copper, 'emt').output
    assert 'reached required accuracy' in (copper / 'OUTCAR').read_text()
    assert ionic_steps(copper) > LAST_STEP


@pytest.mark.parametrize('fault', [Fault.UNFINISHED, Fault.KILLED])
def test_a_run_cut_short_has_files_without_an_end(copper, run_with, fault):
    run_with(fault)
    assert ionic_steps(copper) == LAST_STEP
    assert 'General timing' not in (copper / 'OUTCAR').read_text()
    assert '</modeling>' not in (copper / 'vasprun.xml').read_text()
    assert (copper / 'CONTCAR').stat().st_size > 0


def test_a_run_killed_early_has_no_ionic_step(copper, run_with):
    run_with(Fault.KILLED_EARLY)
    assert ionic_steps(copper) == 0


def test_a_run_killed_while_writing_has_part_of_a_geometry(copper, run_with):
    run_with(Fault.KILLED_WRITING)
    last = (copper / 'vasprun.xml').read_text().rpartition('<varray name="positions"')[2]
    assert 0 < last.count('</v>') < 4
    assert ionic_steps(copper) == LAST_STEP


def test_a_run_without_self_consistency_spends_all_iterations(copper, run_with):
    run_with(Fault.SCF)
    assert (copper / 'OUTCAR').read_text().count('Iteration') == 7 * ionic_steps(copper)


def test_a_run_at_its_limit_of_steps_is_complete(copper, run_with):
    run_with(Fault.NSW)
    outcar = (copper / 'OUTCAR').read_text()
    assert ionic_steps(copper) == LAST_STEP
    assert f'NSW    = {LAST_STEP:6d}' in outcar
    assert 'General timing' in outcar


@pytest.mark.parametrize(
    ('fault', 'message'),
    [(Fault.ZBRENT, 'ZBRENT: fatal error in bracketing'), (Fault.ZPOTRF, 'Routine ZPOTRF failed')],
)
def test_an_error_of_vasp_stands_on_stdout_of_a_run_that_looks_finished(copper, run_with, fault, message):
    assert message in run_with(fault)[1]
    assert ionic_steps(copper) == LAST_STEP
    assert 'General timing' in (copper / 'OUTCAR').read_text()


@pytest.mark.parametrize(
    ('fault', 'name', 'size'),
    [
        (Fault.NO_CONTCAR, 'CONTCAR', None),
        (Fault.NO_VASPRUN, 'vasprun.xml', None),
        (Fault.EMPTY_CONTCAR, 'CONTCAR', 0),
        (Fault.EMPTY_OUTCAR, 'OUTCAR', 0),
        (Fault.EMPTY_VASPRUN, 'vasprun.xml', 0),
    ],
)
def test_one_file_is_missing_or_empty_and_the_others_are_there(copper, run_with, fault, name, size):
    run_with(fault)
    sizes = {file: (copper / file).stat().st_size for file in FILES if (copper / file).exists()}
    assert sizes.pop(name, None) == size
    assert len(sizes) == len(FILES) - 1
    assert all(sizes.values())


def test_a_truncated_vasprun_has_a_beginning_alone(copper, run_with):
    run_with(Fault.TRUNCATED_VASPRUN)
    vasprun = (copper / 'vasprun.xml').read_text()
    assert vasprun.startswith('<?xml')
    assert '</modeling>' not in vasprun


def test_a_fault_once_spares_the_second_run(copper, run_with, tmp_path):
    mark = tmp_path / 'mark'
    assert run_with(Fault.UNFINISHED, '--fault-once', mark)[0] == 1
    assert mark.exists()
    exit_code, output = run_with(Fault.UNFINISHED, '--fault-once', mark)
    assert exit_code == 0
    assert SAID not in output


def test_an_unknown_fault_is_refused_with_those_known(run_with):
    exit_code, output = run_with('zbrend')
    assert exit_code == 2
    assert "'zbrent'" in output


def test_help_tells_every_fault():
    told = CliRunner().invoke(main, ['--help']).output
    assert all(f'  {fault} ' in told for fault in Fault)
