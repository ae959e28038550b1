"""`verdi run calculations/predict.py` in a prepared profile."""

import ase.build
import ase.io
import pytest

SCRIPT = 'calculations/predict.py'


@pytest.fixture
def verdi_run(prepared, run_in):
    return lambda *arguments: run_in(prepared[0], 'verdi', 'run', '--', SCRIPT, *arguments)


def test_crystal_of_its_own(verdi_run):
    done = verdi_run('--device', 'cpu')
    assert done.returncode == 0, done.stderr
    assert 'InP_in_GaAs │ InP     │ ok' in done.stdout
    assert 'verdi process show' in done.stdout


def test_files(verdi_run, tmp_path):
    ase.io.write(tmp_path / '1 mgo.cif', ase.build.bulk('MgO', 'rocksalt', a=4.212))
    ase.io.write(tmp_path / 'two.extxyz', [ase.build.bulk('Cu', a=3.615), ase.build.molecule('H2O')])
    done = verdi_run(tmp_path / '1 mgo.cif', tmp_path / 'two.extxyz', '--device', 'cpu')
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split('│')] for line in done.stdout.splitlines() if line.startswith('│')]
    assert [row[1:4] for row in rows] == [
        ['s_1_mgo', 'MgO', 'ok'],
        ['two_0', 'Cu', 'ok'],
        ['two_1', 'H2O', 'not_periodic'],
    ]


@pytest.mark.parametrize('text', ['', 'data_x\n_cell_length_a 4.2\n'])
def test_a_file_without_a_crystal_is_named(verdi_run, tmp_path, text):
    (tmp_path / 'bad.cif').write_text(text, encoding='utf-8')
    done = verdi_run(tmp_path / 'bad.cif')
    assert done.returncode == 1
    assert 'bad.cif: cannot be read as crystals' in done.stderr
    assert 'Traceback' not in done.stderr


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--code', 'none@localhost'], 'code `none@localhost` is not in this profile; run `aiida-e3relax setup` first'),
        (['--device', 'gpu'], '`device`: expected auto, cpu, cuda or cuda:<n>'),
        (['--device', 'cuda:63'], 'exit code 320'),
        (['--submit'], 'verdi daemon start'),
    ],
)
def test_faults(verdi_run, arguments, message):
    done = verdi_run(*arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert 'Traceback' not in done.stderr
