"""`aiida-e3relax relax` and `aiida-e3relax show` in a prepared profile."""

import re

import ase.build
import ase.io
import pytest
from ase.constraints import FixAtoms

EMT = ['--vasp-code', 'vasp-standin-emt@localhost']
TELL_INPUTS = """
import sys
from aiida import orm

chain = orm.load_node(int(sys.argv[1]))
jobs = [node for node in chain.called_descendants if node.process_label == 'VaspCalculation']
print(dict(sorted(chain.inputs.freedom.get_dict().items())))
print(jobs[0].get_option('max_wallclock_seconds'), jobs[0].get_option('resources'))
"""


@pytest.fixture
def relax(prepared, run_in):
    return lambda *arguments: run_in(prepared[0], 'aiida-e3relax', 'relax', *arguments)


@pytest.fixture
def poscar(tmp_path):
    ase.io.write(tmp_path / 'POSCAR', ase.build.bulk('CuAu', 'rocksalt', a=5.6))
    return tmp_path / 'POSCAR'


def test_a_metal_of_its_own_ends_in_the_table_and_can_be_shown_again(prepared, run_in, tmp_path):
    script = ['verdi', 'run', '--', 'workflows/relax_workchain.py', '--demo', 'metal']
    done = run_in(prepared[0], *script, *EMT)
    assert done.returncode == 0, done.stderr
    assert 'Ag3Pd: VASP with and without the prediction' in done.stdout
    assert 'Computed by the VASP stand-in, not by VASP: effective medium theory' in done.stdout
    assert 'Both end in the same minimum' in done.stdout
    assert 'VASP from the prediction, static run: done' in done.stdout
    assert 'verdi node graph generate' in done.stdout
    assert 'VaspWorkChain|' not in done.stdout.replace('E3RelaxVaspWorkChain|', '')
    pk = re.search(r'E3RelaxVaspWorkChain<(\d+)>', done.stdout)[1]
    shown = run_in(prepared[0], 'aiida-e3relax', 'show', pk, '--plot', tmp_path / 'steps.png')
    assert shown.returncode == 0, shown.stderr
    table = done.stdout[done.stdout.index('Ag3Pd: VASP') :].splitlines()[:10]
    assert shown.stdout.splitlines()[:10] == table
    assert re.search('energy +from the raw structure +█[▁-█]+▁\n', shown.stdout)
    assert (tmp_path / 'steps.png').read_bytes().startswith(b'\x89PNG')


@pytest.mark.slow
def test_a_file_with_a_model_overrides_and_one_leg(relax, tmp_path):
    crystal = ase.build.bulk('CuAu', 'rocksalt', a=5.6)
    ase.io.write(tmp_path / 'POSCAR', crystal)
    (tmp_path / 'overrides.yaml').write_text('guard: {mode: "off"}\n', encoding='utf-8')
    arguments = [*EMT, '--freedom', 'positions', '--reference-leg', 'never']
    arguments += ['--model', 'aiida_e3relax/gnn/checkpoints/default.pt']
    done = relax(tmp_path / 'POSCAR', '--overrides', tmp_path / 'overrides.yaml', *arguments)
    assert done.returncode == 0, done.stderr
    assert 'No reference leg was asked for.' in done.stdout


@pytest.mark.slow
def test_the_overrides_and_the_fixed_sites_of_the_file_hold_where_no_option_is_given(relax, prepared, run_in, tmp_path):
    crystal = ase.build.bulk('CuAu', 'rocksalt', a=5.6)
    crystal.set_constraint(FixAtoms([1]))
    ase.io.write(tmp_path / 'POSCAR', crystal)
    options = '{max_wallclock_seconds: 1234, resources: {num_mpiprocs_per_machine: 2}}'
    (tmp_path / 'overrides.yaml').write_text(
        f'reference_leg: never\nfreedom: positions\nvasp: {{vasp: {{calc: {{metadata: {{options: {options}}}}}}}}}\n',
        encoding='utf-8',
    )
    arguments = [*EMT, '--overrides', tmp_path / 'overrides.yaml']
    done = relax(tmp_path / 'POSCAR', *arguments)
    assert done.returncode == 0, done.stderr
    assert 'No reference leg was asked for.' in done.stdout
    (tmp_path / 'tell_inputs.py').write_text(TELL_INPUTS, encoding='utf-8')
    pk = re.search(r'E3RelaxVaspWorkChain<(\d+)>', done.stdout)[1]
    told = run_in(prepared[0], 'verdi', 'run', tmp_path / 'tell_inputs.py', pk).stdout
    assert (
        told
        == "{'fixed': {'abc': [1]}, 'moves': 'positions'}\n1234 {'num_machines': 1, 'num_mpiprocs_per_machine': 2}\n"
    )


def test_help_is_for_newcomers(relax):
    help_text = relax('--help').stdout
    for word in ('STRUCTURE', '--vasp-code', 'aiida-e3relax setup', 'balanced'):
        assert word in help_text


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ([], 'there are several codes for vasp.vasp; choose one of vasp-standin-emt@localhost, vasp-standin-ionic@'),
        ([*EMT, '--submit'], 'start one with `verdi daemon start`, or leave out --submit\n'),
    ],
)
def test_what_the_profile_leaves_open(relax, poscar, arguments, message):
    done = relax(poscar, *arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert 'Traceback' not in done.stderr


def test_a_profile_without_codes_and_no_profile(run_in, poscar, tmp_path):
    empty = run_in(tmp_path, 'aiida-e3relax', 'relax', poscar)
    assert 'make one with `verdi presto --use-zeromq`' in empty.stderr
    run_in(tmp_path, 'verdi', 'presto', '--non-interactive', '--use-zeromq', '--profile-name', 'bare')
    bare = run_in(tmp_path, 'aiida-e3relax', 'relax', poscar)
    assert 'no code for vasp.vasp is in this profile; make one with `verdi code create' in bare.stderr
    assert 'Traceback' not in empty.stderr + bare.stderr
