"""The command: choosing an engine, and the messages that end a run."""

import sys

import pytest
from ase import Atoms
from ase.build import bulk


@pytest.fixture
def copper(write_inputs):
    """Inputs of copper."""
    return write_inputs(bulk('Cu'), {'NSW': 5, 'IBRION': 2})


def refusal(run_standin, folder, engine='emt'):
    """Run, check that it failed without outputs that look finished, and return stdout."""
    result = run_standin(folder, engine, succeeds=False)
    assert result.exit_code == 1
    assert result.output.startswith(' vasp.6.999.0-standin')
    assert 'ERROR: ' in result.output
    assert not (folder / 'vasprun.xml').exists()
    return result.output


def test_an_engine_must_be_chosen(run_standin, copper):
    output = refusal(run_standin, copper, engine=None)
    assert 'E3RELAX_STANDIN_ENGINE' in output
    assert '--engine' in output


def test_an_unknown_engine_is_named(run_standin, copper):
    assert "engine 'vasp' is not one of emt, ionic, gpaw" in refusal(run_standin, copper, engine='vasp')


def test_the_engine_can_come_from_the_environment(run_standin, copper, monkeypatch):
    from click.testing import CliRunner

    from aiida_e3relax.standin.cli import main

    monkeypatch.chdir(copper)
    monkeypatch.setenv('E3RELAX_STANDIN_ENGINE', 'emt')
    assert CliRunner().invoke(main, []).exit_code == 0


@pytest.mark.parametrize('name', ['INCAR', 'POSCAR', 'POTCAR'])
def test_a_missing_file_is_named(run_standin, copper, name):
    (copper / name).unlink()
    assert f'ERROR: {name} is not in' in refusal(run_standin, copper)


def test_kpoints_may_be_missing(run_standin, copper):
    (copper / 'KPOINTS').unlink()
    run_standin(copper, 'emt')


def test_potentials_in_another_order_are_refused(run_standin, write_inputs):
    folder = write_inputs(bulk('MgO', 'rocksalt', a=4.2), {})
    blocks = (folder / 'POTCAR').read_text().split(' End of Dataset\n')
    (folder / 'POTCAR').write_text(' End of Dataset\n'.join([blocks[1], blocks[0], '']))
    assert 'POTCAR has the elements Mg O, POSCAR O Mg' in refusal(run_standin, folder, 'ionic')


def test_a_corrupt_incar_line_is_shown(run_standin, copper):
    (copper / 'INCAR').write_text('NSW = 5\nIBRION 2\n')
    assert "INCAR line 2: expected 'TAG = value', found 'IBRION 2'" in refusal(run_standin, copper)


def test_a_binary_input_is_refused(run_standin, copper):
    (copper / 'INCAR').write_bytes(b'\xff\xfe\x00')
    assert 'INCAR is not a text file' in refusal(run_standin, copper)


@pytest.mark.parametrize(('engine', 'element'), [('emt', 'Fe'), ('ionic', 'Ar')])
def test_an_element_that_the_engine_does_not_know_is_named(run_standin, write_inputs, engine, element):
    folder = write_inputs(bulk(element), {})
    assert f'engine {engine} does not know {element}' in refusal(run_standin, folder, engine)


def test_a_wrong_number_of_moments_is_refused(run_standin, write_inputs):
    folder = write_inputs(bulk('Cu', cubic=True), {'ISPIN': 2, 'MAGMOM': '3*1.0'})
    assert 'MAGMOM needs 4 values, one per atom, found 3' in refusal(run_standin, folder)


@pytest.mark.parametrize('engine', ['emt', 'ionic'])
@pytest.mark.parametrize(
    ('cell', 'message'),
    [
        ([[40, 0, 0], [0, 40, 0], [0, 0, 0.001]], 'too thin or too skewed, 0.001 A across'),
        ([[40, 0, 0], [0, 40, 0], [900, 0, 0.01]], 'too thin or too skewed'),
    ],
)
def test_a_thin_cell_is_refused_before_neighbours_are_sought(run_standin, write_inputs, engine, cell, message):
    folder = write_inputs(Atoms('Cu', cell=cell, pbc=True), {})
    assert message in refusal(run_standin, folder, engine)


def test_atoms_in_one_place_end_the_run_with_a_message(run_standin, write_inputs):
    folder = write_inputs(Atoms('NaCl', cell=[5, 5, 5], scaled_positions=[[0, 0, 0]] * 2, pbc=True), {})
    result = run_standin(folder, 'ionic', succeeds=False)
    assert result.exit_code == 1
    assert result.output.splitlines()[-1].startswith(' ERROR: ionic step 1: engine ionic found')


def test_a_folder_that_cannot_be_written_is_named(run_standin, copper):
    (copper / 'OUTCAR').mkdir()
    result = run_standin(copper, 'emt', succeeds=False)
    assert result.exit_code == 1
    assert 'ERROR: [Errno 21] Is a directory' in result.output.splitlines()[-1]


def test_gpaw_that_is_not_installed_comes_with_the_remedy(run_standin, copper, monkeypatch):
    monkeypatch.setitem(sys.modules, 'gpaw', None)
    monkeypatch.delitem(sys.modules, 'aiida_e3relax.standin.engines.gpaw', raising=False)
    assert 'run `make demo` once in the checkout' in refusal(run_standin, copper, 'gpaw')
