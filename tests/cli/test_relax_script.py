"""`verdi run workflows/relax_workchain.py` in a prepared profile."""

import ase.build
import ase.io
import pytest

SCRIPT = 'workflows/relax_workchain.py'


@pytest.fixture
def verdi_run(prepared, run_in):
    return lambda *arguments: run_in(prepared[0], 'verdi', 'run', '--', SCRIPT, *arguments)


def test_a_metal_of_its_own_ends_in_the_table_and_where_to_look(verdi_run):
    done = verdi_run('--vasp-code', 'vasp-standin-emt@localhost')
    assert done.returncode == 0, done.stderr
    assert 'Ag3Pd: VASP with and without the prediction' in done.stdout
    assert 'Computed by the VASP stand-in, not by VASP: effective medium theory' in done.stdout
    assert 'Both end in the same minimum' in done.stdout
    assert 'VASP from the prediction, static run: done' in done.stdout
    assert 'verdi node graph generate' in done.stdout
    assert '|VaspWorkChain|' not in done.stdout


def test_a_file_with_a_model_overrides_and_one_leg(verdi_run, tmp_path):
    crystal = ase.build.bulk('CuAu', 'rocksalt', a=5.6)
    ase.io.write(tmp_path / 'POSCAR', crystal)
    (tmp_path / 'overrides.yaml').write_text('guard: {mode: "off"}\n', encoding='utf-8')
    arguments = ['--vasp-code', 'vasp-standin-emt@localhost', '--freedom', 'positions', '--no-reference']
    arguments += ['--model', 'aiida_e3relax/gnn/checkpoints/default.pt']
    done = verdi_run(tmp_path / 'POSCAR', '--overrides', tmp_path / 'overrides.yaml', *arguments)
    assert done.returncode == 0, done.stderr
    assert 'No reference leg was asked for.' in done.stdout


def test_help_is_for_newcomers(verdi_run):
    help_text = verdi_run('--help').stdout
    for word in ('STRUCTURE_FILE', '--vasp-code', 'aiida-e3relax setup', 'balanced'):
        assert word in help_text


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--vasp-code', 'none@localhost'], 'none@localhost'),
        (['README.md'], 'README.md: cannot be read as a crystal'),
        (['--vasp-code', 'vasp-standin-emt@localhost', '--potential-family', 'PBE'], 'potential family `PBE`'),
        (['--vasp-code', 'vasp-standin-emt@localhost', '--submit'], 'verdi daemon start'),
    ],
)
def test_faults(verdi_run, arguments, message):
    done = verdi_run(*arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert 'Traceback' not in done.stderr
