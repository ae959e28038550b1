"""`verdi run workflows/relax_workchain.py` in a prepared profile."""

import re

import ase.build
import ase.io
import pytest
from ase.constraints import FixAtoms

SCRIPT = 'workflows/relax_workchain.py'
TELL_INPUTS = """
import sys
from aiida import orm

chain = orm.load_node(int(sys.argv[1]))
jobs = [node for node in chain.called_descendants if node.process_label == 'VaspCalculation']
print(dict(sorted(chain.inputs.freedom.get_dict().items())))
print(jobs[0].get_option('max_wallclock_seconds'), jobs[0].get_option('resources'))
"""


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


def test_the_overrides_and_the_fixed_sites_of_the_file_hold_where_no_option_is_given(
    verdi_run, prepared, run_in, tmp_path
):
    crystal = ase.build.bulk('CuAu', 'rocksalt', a=5.6)
    crystal.set_constraint(FixAtoms([1]))
    ase.io.write(tmp_path / 'POSCAR', crystal)
    options = '{max_wallclock_seconds: 1234, resources: {num_mpiprocs_per_machine: 2}}'
    (tmp_path / 'overrides.yaml').write_text(
        f'reference_leg: never\nfreedom: positions\nvasp: {{vasp: {{calc: {{metadata: {{options: {options}}}}}}}}}\n',
        encoding='utf-8',
    )
    arguments = ['--vasp-code', 'vasp-standin-emt@localhost', '--overrides', tmp_path / 'overrides.yaml']
    done = verdi_run(tmp_path / 'POSCAR', *arguments)
    assert done.returncode == 0, done.stderr
    assert 'No reference leg was asked for.' in done.stdout
    (tmp_path / 'tell_inputs.py').write_text(TELL_INPUTS, encoding='utf-8')
    pk = re.search(r'E3RelaxVaspWorkChain<(\d+)>', done.stdout)[1]
    told = run_in(prepared[0], 'verdi', 'run', tmp_path / 'tell_inputs.py', pk).stdout
    assert (
        told
        == "{'fixed': {'abc': [1]}, 'moves': 'positions'}\n1234 {'num_machines': 1, 'num_mpiprocs_per_machine': 2}\n"
    )


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('vasp: {', 'overrides.yaml: is not YAML: while parsing'),
        ('- encut: 300', "overrides.yaml: expected inputs such as `freedom: positions`, found [{'encut': 300}]"),
        ('vasp:', 'overrides: `vasp`: expected a mapping'),
        ('vasp: {vasp: {parameters: {incar: {pstress: 50}}}}', 'INCAR tag PSTRESS'),
    ],
)
def test_faults_of_the_overrides_file(verdi_run, tmp_path, text, message):
    (tmp_path / 'overrides.yaml').write_text(text, encoding='utf-8')
    done = verdi_run('--vasp-code', 'vasp-standin-emt@localhost', '--overrides', tmp_path / 'overrides.yaml')
    assert done.returncode == 1
    assert message in done.stderr
    assert 'Traceback' not in done.stderr


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
