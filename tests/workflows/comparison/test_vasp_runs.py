import io

import numpy as np
import pytest
from aiida import orm

from aiida_e3relax.crystals.freedom.freedom import Freedom
from aiida_e3relax.workflows.comparison.legs import read_leg
from aiida_e3relax.workflows.comparison.vasp_runs import read_run
from tests.workflows.crystals import copper_gold

pytestmark = pytest.mark.usefixtures('aiida_profile')


def outcar(*lines: str) -> orm.FolderData:
    folder = orm.FolderData()
    folder.base.repository.put_object_from_filelike(io.BytesIO('\n'.join(lines).encode()), 'OUTCAR')
    return folder


def misc(steps: int, seconds: float, energy: float = -12.0) -> orm.Dict:
    return orm.Dict(
        {
            'run_status': {'last_iteration_index': [steps, 7] if steps else None},
            'run_stats': {'elapsed_time': seconds},
            'total_energies': {'energy_extrapolated': energy},
            'forces': [[0.0, 0.03, 0.04]] * 4,
            'stress': np.diag([1.0, 2.0, 6.0]).tolist(),
        }
    )


def trajectory(steps: int) -> orm.TrajectoryData:
    """As aiida-vasp makes it: a run of one step has two frames."""
    frames = max(steps, 2)
    node = orm.TrajectoryData()
    node.set_array('forces', np.full((frames, 4, 3), 0.1))
    node.set_array('stress', np.stack([np.eye(3) * 30.0] * frames))
    node.set_array('energy_extrapolated', np.linspace(-10.0, -12.0, steps))
    return node


@pytest.mark.parametrize(
    ('header', 'version', 'cores'),
    [
        ((' vasp.6.4.2 20Jul23 (build Aug 2023) complex', '', ' running on   16 total cores'), '6.4.2', 16),
        ((' vasp.6.4.3 19Mar24', ' running    4 mpi-ranks, with    8 threads/rank, on    1 nodes'), '6.4.3', 32),
        ((' vasp.6.4.2-standin-emt (not VASP)', ' running on    1 total cores'), '6.4.2-standin-emt', 1),
        ((' killed before it wrote more',), None, None),
    ],
)
def test_version_and_cores_are_read_from_the_head_of_outcar(header, version, cores):
    run = read_run(outcar(*header), misc(3, 2.0))
    assert (run.code_version, run.cores) == (version, cores)
    assert run.core_time == (None if cores is None else 2.0 * cores)


def test_electronic_steps_are_the_loops_in_outcar():
    loops = [f'--- Iteration      {ionic}(   {loop})  ---' for ionic in (1, 2) for loop in range(1, 6)]
    run = read_run(outcar(' vasp.6.4.2', *loops, ' reached required accuracy'), misc(2, 2.0))
    assert (run.ionic_steps, run.electronic_steps) == (2, 10)


@pytest.mark.parametrize(
    ('steps', 'ending', 'converged'),
    [
        ((60, 12), '', False),
        ((60, 12), 'aborting loop EDIFF was not reached (unconverged)', False),
        ((60, 12), 'aborting loop because EDIFF is reached', True),
        ((59, 60), '', True),
        ((), '', None),
    ],
)
def test_a_first_ionic_step_of_nelm_electronic_ones_is_converged_only_if_vasp_says_so(steps, ending, converged):
    lines = [' vasp.6.4.2', '   NELM   =     60;   NELMIN=  2; NELMDL= -5     # of ELM steps']
    for ionic, count in enumerate(steps, start=1):
        lines += [f'--- Iteration      {ionic}({loop:4d})  ---' for loop in range(1, count + 1)]
        lines.append(f'-------- {ending if ionic == 1 else "aborting loop because EDIFF is reached"} --------')
    run = read_run(outcar(*lines), None)
    assert (run.starts_converged, run.electronic_steps) == (converged, sum(steps))


def test_the_force_counts_on_sites_that_may_move_altogether():
    structure = orm.StructureData(ase=copper_gold())
    told = misc(5, 10.0).get_dict() | {'forces': [[0.0, 0.0, 3.0], [0.0, 2.0, 0.0], [0.0, 0.03, 0.04], [0.0] * 3]}
    tags = orm.Dict({'ediffg': -0.02, 'encut': 400})
    nodes = {'misc_1': orm.Dict(told), 'structure': structure, 'incar_first': tags, 'incar_last': tags}

    def forces(**freedom):
        leg = read_leg(structure, nodes, freedom=Freedom(**freedom))
        return leg.last.max_free_force, leg.force_cutoff

    assert forces(fixed={'abc': [0], 'c': [1]}) == (pytest.approx(0.05), 0.02)
    assert forces() == (3.0, 0.02)
    assert forces(fixed={'c': [0, 1, 2, 3]}) == (None, 0.02)
    assert forces(moves='volume') == (3.0, None)
    nodes['incar_first'] = orm.Dict({'ediffg': 1e-4})
    assert forces() == (3.0, None)


def test_a_last_run_with_other_tags_is_of_another_surface():
    structure = orm.StructureData(ase=copper_gold())
    nodes = {'misc_1': misc(5, 10.0), 'incar_first': orm.Dict({'encut': 400, 'gga': 'PE', 'nsw': 9})}
    nodes['incar_last'] = orm.Dict({'encut': 520, 'gga': 'pe', 'algo': 'all'})
    assert read_leg(structure, nodes).other_surface == ('ENCUT',)


def test_a_run_that_left_nothing_has_no_steps_and_no_time():
    run = read_run(None, None)
    assert (run.ionic_steps, run.electronic_steps, run.wall_time, run.core_time) == (None, None, None, None)
    assert read_run(None, misc(0, 1.0)).ionic_steps == 0
    assert read_run(outcar(), None).ionic_steps is None


def test_a_run_of_which_aiida_vasp_could_read_nothing_has_the_time_of_outcar():
    loops = [f'--- Iteration      {ionic}(   1)  ---' for ionic in (1, 2, 3)]
    lines = (' vasp.6.4.2', ' running on    4 total cores', *loops, '   Elapsed time (sec):       12.500')
    run = read_run(outcar(*lines), None)
    assert (run.ionic_steps, run.wall_time, run.core_time) == (3, 12.5, 50.0)


@pytest.mark.parametrize('entries', [None, {'version': '6.4.2'}])
def test_a_killed_run_has_the_ionic_steps_of_outcar_and_no_time(entries):
    left = entries and orm.Dict(entries)
    loops = [f'--- Iteration      {ionic}(   {loop})  ---' for ionic in (1, 2, 3) for loop in (1, 2)]
    run = read_run(outcar(' vasp.6.4.2', *loops), left)
    assert (run.ionic_steps, run.electronic_steps, run.wall_time) == (3, 6, None)
    assert read_run(outcar(' vasp.6.4.2'), left).ionic_steps == 0


def test_a_leg_counts_failed_and_restarted_runs_and_not_the_static_one():
    structure = orm.StructureData(ase=copper_gold())
    leg = read_leg(
        structure,
        {
            'retrieved_1': outcar(' vasp.6.4.2', ' running on 2 total cores'),
            'misc_1': misc(5, 10.0),
            'trajectory_1': trajectory(5),
            'retrieved_2': outcar(' vasp.6.4.2', ' running on 2 total cores'),
            'misc_2': misc(4, 8.0),
            'trajectory_2': trajectory(4),
            'misc_static': misc(1, 3.0, energy=-12.4),
            'structure': structure,
        },
    )
    assert [run.ionic_steps for run in leg.runs] == [5, 4]
    assert leg.total(lambda run: run.wall_time) == 18.0
    assert leg.static_wall_time == 3.0
    assert leg.first.energy == -2.5
    assert leg.first.max_force == pytest.approx(0.1 * np.sqrt(3))
    assert leg.first.pressure == 30.0
    assert (leg.last.energy, leg.last.max_force, leg.last.pressure) == pytest.approx((-3.1, 0.05, 3.0))


def test_without_a_static_run_the_last_run_tells_the_end():
    structure = orm.StructureData(ase=copper_gold())
    leg = read_leg(structure, {'misc_1': misc(5, 10.0), 'structure': structure})
    assert (leg.last.energy, leg.static_wall_time, leg.first) == (-3.0, None, None)


def test_a_relaxed_crystal_without_its_energy_has_no_last_step():
    structure = orm.StructureData(ase=copper_gold())
    assert read_leg(structure, {'retrieved_1': outcar(' vasp.6.4.2'), 'structure': structure}).last is None
    assert read_leg(structure, {'misc_1': orm.Dict({'forces': [[0.0] * 3] * 4}), 'structure': structure}).last is None


def test_a_first_step_that_vasp_did_not_finish_is_none():
    unfinished = trajectory(1)
    unfinished.delete_array('stress')
    assert read_leg(orm.StructureData(ase=copper_gold()), {'trajectory_1': unfinished}).first is None


def test_a_leg_that_left_no_nodes_has_no_runs():
    leg = read_leg(orm.StructureData(ase=copper_gold()), {})
    assert (leg.runs, leg.first, leg.last, leg.code_version) == ((), None, None, None)


def test_a_run_of_which_no_file_came_back_counts_and_the_cost_of_the_others_is_the_least_that_was_spent():
    structure = orm.StructureData(ase=copper_gold())
    folder = orm.RemoteData(remote_path='/scratch/killed')
    leg = read_leg(structure, {'remote_folder_1': folder, 'misc_2': misc(4, 8.0), 'trajectory_2': trajectory(4)})
    assert [run.ionic_steps for run in leg.runs] == [None, 4]
    assert leg.total(lambda run: run.ionic_steps) == 4
    assert leg.total(lambda run: run.cores) is None
    assert leg.first is None
