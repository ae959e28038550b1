"""The stand-in behind the real aiida-vasp: calculation, restarts and relaxation in a real profile."""

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import DataFactory, WorkflowFactory
from ase.build import bulk

from aiida_e3relax.standin.potentials import write_potentials

FAMILY = 'standin'
ENGINE = 'export E3RELAX_STANDIN_ENGINE=emt'
OPTIONS = {'resources': {'num_machines': 1, 'num_mpiprocs_per_machine': 1}, 'max_wallclock_seconds': 600}
STATIC = {'encut': 300, 'ediff': 1e-5, 'ismear': 0, 'sigma': 0.1}
RELAX = {'ibrion': 2, 'isif': 3, 'nsw': 60, 'ediffg': -0.01, 'potim': 0.5}


@pytest.fixture(scope='module')
def potentials(aiida_profile, tmp_path_factory):
    """A family of generated potentials in the profile."""
    folder = tmp_path_factory.mktemp('potentials')
    write_potentials(folder, ['Cu', 'Al', 'Mg', 'O'])
    DataFactory('vasp.potcar').upload_potcar_family(folder, FAMILY, 'made by the stand-in', stop_if_existing=False)
    return FAMILY


@pytest.fixture
def vasp(aiida_profile, make_code, potentials):
    """Builder of aiida-vasp's work chains for strained copper with the EMT engine."""

    def build(entry_point, incar=None, structure=None, limit=''):
        code = make_code('e3relax-vasp-standin', 'vasp-emt', 'vasp.vasp', f'{ENGINE}\n{limit}')
        builder = WorkflowFactory(entry_point).get_builder()
        builder.structure = structure or strained_copper()
        inputs = builder.vasp if entry_point == 'vasp.v2.relax' else builder
        inputs.code = code
        inputs.parameters = orm.Dict(
            {'incar': {'encut': 300, 'ediff': 1e-5, 'ismear': 0, 'sigma': 0.1, **(incar or {})}}
        )
        inputs.kpoints = orm.KpointsData()
        inputs.kpoints.set_kpoints_mesh([2, 2, 2])
        inputs.potential_family = FAMILY
        inputs.potential_mapping = {'Cu': 'Cu', 'Al': 'Al', 'Mg': 'Mg', 'O': 'O'}
        inputs.calc.metadata.options = OPTIONS
        return builder

    return build


def strained_copper():
    atoms = bulk('Cu', cubic=True)
    atoms.set_cell(1.04 * atoms.cell, scale_atoms=True)
    atoms.rattle(0.05, seed=2)
    return orm.StructureData(ase=atoms)


def only_calculation(node):
    calculations = [called for called in node.called_descendants if isinstance(called, orm.CalcJobNode)]
    assert len(calculations) == 1
    return calculations[0]


def test_calculation_relaxes(make_code, potentials):
    builder = make_code('e3relax-vasp-standin', 'vasp-emt', 'vasp.vasp', ENGINE).get_builder()
    builder.structure = strained_copper()
    builder.potential = {'Cu': DataFactory('vasp.potcar').find_one(full_name='Cu')}
    builder.parameters = orm.Dict(STATIC | RELAX)
    builder.kpoints = orm.KpointsData()
    builder.kpoints.set_kpoints_mesh([2, 2, 2])
    builder.metadata.options = OPTIONS
    results, node = run_get_node(builder)
    assert node.is_finished_ok, node.exit_message
    assert results['misc']['version'] == '6.999.0'


def test_workchain_relaxes(vasp):
    results, node = run_get_node(vasp('vasp.v2.vasp', RELAX))
    assert node.is_finished_ok, node.exit_message
    misc = results['misc'].get_dict()
    status = misc['run_status']
    assert status['finished']
    assert status['electronic_converged']
    assert status['ionic_converged']
    assert misc['version'] == '6.999.0'
    assert misc['notifications'] == []
    assert np.linalg.norm(misc['forces'], axis=1).max() < 0.01
    assert results['structure'].get_cell_volume() < strained_copper().get_cell_volume()
    calculation = only_calculation(node)
    outcar = calculation.outputs.retrieved.get_object_content('OUTCAR')
    assert outcar.startswith(' vasp.6.999.0-standin-emt\n')
    steps = status['last_iteration_index'][0]
    assert outcar.count('LOOP+') == steps > 3


def test_relax_workchain_ends_well_and_counts_its_steps(vasp):
    builder = vasp('vasp.v2.relax')
    builder.relax_settings = {
        'force_cutoff': 0.01,
        'steps': 60,
        'convergence_on': False,
        'residual_forces_check': False,
    }
    results, node = run_get_node(builder)
    assert node.is_finished_ok, node.exit_message
    links = node.base.links.get_outgoing()
    relaxation = links.get_node_by_label('relax_01')
    static = links.get_node_by_label('singlepoint')
    assert relaxation.outputs.misc['run_status']['last_iteration_index'][0] > 3
    assert static.outputs.misc['run_status']['last_iteration_index'] == [1, 1]
    last = relaxation.outputs.trajectory.get_array('energy_extrapolated')[-1]
    assert results['misc']['total_energies']['energy_extrapolated'] == pytest.approx(last, abs=1e-6)
    relaxed = results['relax']['structure']
    np.testing.assert_allclose(relaxed.cell, static.inputs.structure.cell)


def test_selective_dynamics_come_through(vasp):
    builder = vasp('vasp.v2.vasp', RELAX | {'isif': 2})
    builder.dynamics = {'positions_dof': orm.List([[False] * 3] + [[True] * 3] * 3)}
    results, node = run_get_node(builder)
    assert node.is_finished_ok, node.exit_message
    start = strained_copper()
    np.testing.assert_allclose(results['structure'].sites[0].position, start.sites[0].position, atol=1e-8)
    assert not np.allclose(results['structure'].sites[1].position, start.sites[1].position, atol=1e-3)


@pytest.mark.parametrize(
    ('incar', 'status'),
    [({**RELAX, 'nelm': 1, 'nelmin': 1}, 701), ({**RELAX, 'nsw': 3}, 702)],
)
def test_unfinished_convergence_is_told(vasp, incar, status):
    builder = vasp('vasp.v2.vasp', incar)
    builder.max_iterations = 1
    _, node = run_get_node(builder)
    assert not node.is_finished_ok
    assert only_calculation(node).exit_status == status


def test_reached_nsw_is_restarted(vasp):
    results, node = run_get_node(vasp('vasp.v2.vasp', RELAX | {'nsw': 8}))
    assert node.is_finished_ok, node.exit_message
    calculations = [called for called in node.called_descendants if isinstance(called, orm.CalcJobNode)]
    assert [calculation.exit_status for calculation in calculations][:-1] == [702] * (len(calculations) - 1)
    assert len(calculations) > 1
    assert results['misc']['run_status']['ionic_converged']


def test_an_engine_that_does_not_know_an_element_fails_with_its_message(vasp):
    structure = orm.StructureData(ase=bulk('MgO', 'rocksalt', a=4.212))
    builder = vasp('vasp.v2.vasp', structure=structure)
    builder.max_iterations = 1
    _, node = run_get_node(builder)
    assert not node.is_finished_ok
    calculation = only_calculation(node)
    assert not calculation.is_finished_ok
    assert 'engine emt does not know Mg, O' in calculation.outputs.retrieved.get_object_content('vasp_output')


def test_a_killed_run_is_told(vasp):
    atoms = bulk('Cu', cubic=True) * (4, 4, 4)
    atoms.rattle(0.1, seed=1)
    incar = {**RELAX, 'nsw': 10000, 'ediffg': -1e-9, 'ibrion': 3}
    builder = vasp('vasp.v2.vasp', incar, orm.StructureData(ase=atoms), limit='ulimit -t 4')  # seconds of CPU time
    builder.max_iterations = 1
    _, node = run_get_node(builder)
    assert only_calculation(node).exit_status == 700
