"""`E3RelaxBaseWorkChain`: what it mends, and how it gives up."""

import ase.build
import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node

from aiida_e3relax.calculations.predict import E3RelaxCalculation
from aiida_e3relax.crystals.files.details import OF_BONDS
from aiida_e3relax.workflows.network.base import SMALLEST_MAX_EDGES, E3RelaxBaseWorkChain

EXIT_CODES = E3RelaxCalculation.exit_codes
DETAILS = {'device': 'cpu', 'layers': True, 'bonds': True}

# Runs the network as if memory sufficed for $LIMIT edges only, and else ends as the kernel's killer ends it.
SHORT_OF_MEMORY = """
edges=$(grep -oP -- '--max-edges \\K\\d+' <<< "$*")
if [ "$edges" -gt "$LIMIT" ] && [[ "$*" != *"--device cpu"* ]]; then kill -KILL $$; fi
e3relax "$@"
"""
# No structure fits into the memory of the GPU, not even alone.
TOO_SMALL_A_GPU = """
if [[ "$*" == *"--device cpu"* ]]; then e3relax "$@"; exit; fi
echo '{"schema": 1, "error": {"code": "out_of_memory", "message": "none of 1 structures fits"},
       "structures": [{"label": "cu", "status": "out_of_memory", "message": ""}]}' > report.json
exit 6
"""
# As above, beside a structure with a fault of its own; nothing is predicted, and the program ends well.
TOO_SMALL_BESIDE_A_FAULT = """
e3relax "$@"
if [[ "$*" == *"--device cpu"* ]]; then exit; fi
sed -i 's/"status": "ok"/"status": "out_of_memory"/; s/"used": "cpu"/"used": "cuda:0"/' report.json
"""
# Fails at the first call, works at the second.
FLAKY = """
if [ ! -e {mark} ]; then touch {mark}; echo "bus error" >&2; exit 1; fi
e3relax "$@"
"""


@pytest.fixture
def run(make_code, model, make_structure, find_program, tmp_path):
    """A factory of work chain runs on copper, with the network or a few lines of shell as the code."""

    def run_base(
        lines: str = 'e3relax "$@"',
        allow_cpu: bool = True,
        also: dict | None = None,
        max_iterations: int = 10,
        options: dict | None = None,
        **parameters: object,
    ) -> orm.WorkChainNode:
        path = tmp_path / 'program.sh'
        path.write_text(f'#!/bin/bash\nPATH={find_program("e3relax").parent}:$PATH\n{lines}\n')
        path.chmod(0o755)
        inputs = {
            'code': make_code(path, 'program', 'e3relax.predict'),
            **({} if parameters.get('start') == 'input' else {'model': model}),
            'metadata': {'options': options or {}},
            'structures': {'cu': make_structure('Cu'), **(also or {})},
            'parameters': parameters,
        }
        return run_get_node(E3RelaxBaseWorkChain, predict=inputs, allow_cpu=allow_cpu, max_iterations=max_iterations)[1]

    return run_base


def parameters_of(node: orm.WorkChainNode, name: str) -> list[object]:
    """The value of one parameter in every run, in order."""
    runs = sorted(node.called, key=lambda called: called.pk)
    return [called.inputs.parameters.get_dict().get(name) for called in runs]


def test_success_at_once(run):
    node = run(device='cpu')
    assert node.is_finished_ok, node.exit_message
    assert len(node.called) == 1
    assert list(node.outputs.structures) == ['cu']
    assert node.outputs.report['structures'][0]['status'] == 'ok'


def test_out_of_memory_halves_the_batch(run):
    node = run(f'LIMIT=10000\n{SHORT_OF_MEMORY}', device='auto', max_edges=32000)
    assert node.is_finished_ok, node.exit_message
    assert parameters_of(node, 'max_edges') == [32000, 16000, 8000]
    runs = sorted(node.called, key=lambda c: c.pk)
    assert [called.exit_status for called in runs] == [321, 321, 0]
    assert [called.base.extras.get('max_edges_fitted', None) for called in runs] == [None, None, 8000]


@pytest.mark.slow
def test_smallest_batch_goes_to_the_cpu(run):
    node = run(f'LIMIT=0\n{SHORT_OF_MEMORY}', max_edges=2 * SMALLEST_MAX_EDGES)
    assert node.is_finished_ok, node.exit_message
    assert parameters_of(node, 'max_edges')[:2] == [2 * SMALLEST_MAX_EDGES, SMALLEST_MAX_EDGES]
    assert parameters_of(node, 'device') == [None, None, 'cpu']


def test_structure_too_large_for_the_gpu_goes_straight_to_the_cpu(run):
    node = run(TOO_SMALL_A_GPU)
    assert node.is_finished_ok, node.exit_message
    assert parameters_of(node, 'device') == [None, 'cpu']


@pytest.mark.slow
def test_structure_too_large_for_the_gpu_beside_a_faulty_one(run):
    empty = orm.StructureData(cell=[[4, 0, 0], [0, 4, 0], [0, 0, 4]])
    node = run(TOO_SMALL_BESIDE_A_FAULT, also={'empty': empty})
    assert node.is_finished_ok, node.exit_message
    assert parameters_of(node, 'device') == [None, 'cpu']
    assert list(node.outputs.structures) == ['cu']


def test_out_of_memory_on_the_cpu_is_the_end(run):
    node = run('kill -KILL $$', device='cpu', max_edges=SMALLEST_MAX_EDGES)
    assert node.exit_status == EXIT_CODES.ERROR_OUT_OF_MEMORY.status
    assert len(node.called) == 1


def test_out_of_memory_on_the_cpu_that_auto_found_is_the_end(run):
    node = run(TOO_SMALL_BESIDE_A_FAULT.split('s/"used"', maxsplit=1)[0] + "' report.json")
    assert node.exit_status == EXIT_CODES.ERROR_OUT_OF_MEMORY.status
    assert parameters_of(node, 'device') == [None]


@pytest.mark.parametrize(
    ('parameters', 'options', 'devices'),
    [
        ({}, {}, [None]),
        ({'device': 'cuda'}, {}, ['cuda', 'cpu']),
        ({}, {'custom_scheduler_commands': '#SBATCH --gres=gpu:a100:1'}, [None, 'cpu']),
    ],
)
def test_a_potential_without_a_gpu_has_nowhere_to_go_when_memory_runs_out(run, parameters, options, devices):
    alone = {'potential': 'chgnet', 'start': 'input'}
    node = run('kill -KILL $$', options=options, **alone, **parameters)
    assert node.exit_status == EXIT_CODES.ERROR_OUT_OF_MEMORY.status
    assert parameters_of(node, 'device') == devices


def test_after_a_network_its_smallest_batch_is_tried_before_that(run):
    node = run('kill -KILL $$', potential='chgnet', device='cuda')
    assert node.exit_status == EXIT_CODES.ERROR_OUT_OF_MEMORY.status
    assert parameters_of(node, 'max_edges') == [None, SMALLEST_MAX_EDGES, SMALLEST_MAX_EDGES]
    assert parameters_of(node, 'device') == ['cuda', 'cuda', 'cpu']


def test_no_gpu_goes_to_the_cpu(run):
    node = run(device='cuda:63')
    assert node.is_finished_ok, node.exit_message
    assert parameters_of(node, 'device') == ['cuda:63', 'cpu']
    assert node.outputs.report['device']['used'] == 'cpu'


def test_no_gpu_and_no_leave_to_use_the_cpu(run):
    node = run(device='cuda:63', allow_cpu=False)
    assert node.exit_status == EXIT_CODES.ERROR_NO_DEVICE.status
    assert 'cuda:63' in node.exit_message
    assert len(node.called) == 1


def test_crash_is_tried_once_more(run, tmp_path):
    node = run(FLAKY.format(mark=tmp_path / 'mark'), device='cpu')
    assert node.is_finished_ok, node.exit_message
    assert sorted(called.exit_status for called in node.called) == [0, EXIT_CODES.ERROR_PROGRAM_CRASHED.status]


@pytest.mark.parametrize(
    ('lines', 'name'),
    [
        ('echo "no torch" >&2; exit 1', 'ERROR_PROGRAM_CRASHED'),
        ('echo garbage > report.json', 'ERROR_OUTPUT_INVALID'),
    ],
)
def test_second_crash_is_the_end(run, lines, name):
    node = run(lines)
    assert node.exit_status == EXIT_CODES[name].status
    assert len(node.called) == 2


def test_bad_checkpoint_is_not_tried_again(run):
    node = run('printf x >> model.pt; e3relax "$@"')
    assert node.exit_status == EXIT_CODES.ERROR_BAD_CHECKPOINT.status
    assert len(node.called) == 1


def test_layers_and_bonds_are_nodes_of_every_structure(run, make_structure):
    given = make_structure(ase.build.bulk('MgO', 'rocksalt', a=4.4))
    node = run(also={'mgo': given, 'empty': orm.StructureData(cell=[[4, 0, 0], [0, 4, 0], [0, 0, 4]])}, **DETAILS)
    assert node.is_finished_ok, node.exit_message
    assert sorted(node.outputs.trajectories) == sorted(node.outputs.bonds) == ['cu', 'mgo']
    trajectory, bonds = node.outputs.trajectories.mgo, node.outputs.bonds.mgo
    assert trajectory.numsteps == len(trajectory.get_stepids()) == 4
    assert trajectory.symbols == ['Mg', 'O']
    assert trajectory.get_cells()[0] == pytest.approx(np.array(given.cell), abs=1e-12)
    last, predicted = trajectory.get_step_structure(3), node.outputs.structures.mgo
    assert np.array(last.cell) == pytest.approx(np.array(predicted.cell), abs=1e-12)
    assert [site.position for site in last.sites] == [
        pytest.approx(site.position, abs=1e-12) for site in predicted.sites
    ]
    assert set(bonds.get_arraynames()) == set(OF_BONDS.values())
    centre, neighbour, offset = (bonds.get_array(name) for name in ('centre', 'neighbour', 'offset'))
    positions = np.array([site.position for site in predicted.sites])
    vectors = positions[neighbour] + offset @ np.array(predicted.cell) - positions[centre]
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(bonds.get_array('final_length_A'), abs=1e-9)
    assert bonds.get_array('uncertainty_A').min() >= 0


@pytest.mark.parametrize('file', ['predictions.layers.npz', 'predictions.bonds.npz'])
def test_layers_and_bonds_that_do_not_come_are_invalid_output(run, file):
    node = run(f'e3relax "$@"; rm {file}', max_iterations=1, **DETAILS)
    assert node.called[0].exit_status == EXIT_CODES.ERROR_OUTPUT_INVALID.status
    assert f'{file}: no such file' in node.called[0].exit_message
    assert 'structures' not in node.called[0].outputs
