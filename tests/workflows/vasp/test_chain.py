"""The chain for real: the network's program, aiida-vasp and the stand-in with effective medium theory."""

import sys
from pathlib import Path

import numpy as np
import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import run_get_node
from aiida.orm.utils.serialize import serialize

from aiida_e3relax.crystals.geometry import is_same_crystal
from aiida_e3relax.data.structures import structures_to_crystals
from aiida_e3relax.workflows.vasp import chain as chain_module
from aiida_e3relax.workflows.vasp.chain import E3RelaxVaspWorkChain
from tests.workflows.crystals import rattled_copper_gold

BIN = Path(sys.executable).parent
RAW_CELL_LINE = '3.7493'
FAILS = 'exit 1'
LEGS = ('raw', 'predicted')
ONE_TRY = {'vasp': {'vasp': {'max_iterations': 1}}}
FAILS_FROM_THE_PREDICTION = f'grep -qi NSW INCAR && ! sed -n 3p POSCAR | grep -q {RAW_CELL_LINE} && exit 1'

KILLED_ONCE = f"""
if grep -qi NSW INCAR && mkdir {{flag}}; then
    exec {sys.executable} - <<END
import os, signal
from aiida_e3relax.standin.cli import main
from aiida_e3relax.standin.outputs import Outputs

write_step = Outputs.ionic_step

def write_two_steps(outputs, step):
    write_step(outputs, step)
    if step.number == 2:
        os.kill(os.getpid(), signal.SIGKILL)

Outputs.ionic_step = write_two_steps
main()
END
fi
"""
"""A relaxation is killed after its second ionic step, the first time; needs `flag`, a new path."""

POSITIONS = {'freedom': 'positions'}
"""The cell is kept: no static run follows, which saves a third of the time where a test is of something else."""


def links_of(chain: orm.ProcessNode) -> dict[str, orm.ProcessNode]:
    links = chain.base.links.get_outgoing(link_type=(LinkType.CALL_WORK, LinkType.CALL_CALC))
    return {link.link_label: link.node for link in links.all()}


def vasp_jobs(leg: orm.ProcessNode, link: str) -> list[orm.CalcJobNode]:
    base = links_of(leg)[link]
    return [node for node in base.called if isinstance(node, orm.CalcJobNode)]


def read_outcar(job: orm.CalcJobNode) -> str:
    return job.outputs.retrieved.base.repository.get_object_content('OUTCAR')


def count_ionic_steps(job: orm.CalcJobNode) -> int:
    """By hand: the loops in OUTCAR that ended in forces."""
    return read_outcar(job).count('TOTAL-FORCE (eV/Angst)')


def test_full_chain_compares_the_two_legs(make_builder):
    overrides = {'static_run': 'with-reference'}  # there is one
    _, chain = run_get_node(make_builder(reference_leg='always', overrides=overrides))
    assert chain.exit_status == 0, chain.exit_message
    called = links_of(chain)
    assert set(called) == {'kpoints', 'network', 'guard', 'relax_predicted', 'relax_raw', 'compare'}
    comparison = chain.outputs.comparison.get_dict()

    for leg in LEGS:
        told, process = comparison[leg], called[f'relax_{leg}']
        (job,) = vasp_jobs(process, 'relax_01')
        assert set(links_of(process)) == {'relax_01', 'singlepoint'}
        assert told['ionic_steps'] == count_ionic_steps(job) > 1
        assert told['electronic_steps'] == read_outcar(job).count('Iteration')
        assert (told['stand_in'], told['finished'], told['vasp_runs']) == ('emt', True, 1)
        assert told['code_version'].endswith('-standin-emt')
        trajectory = job.outputs.trajectory
        assert told['energy_first_step_eV_per_atom'] == trajectory.get_array('energy_extrapolated')[0] / 4
        final = process.outputs.misc['total_energies']['energy_extrapolated'] / 4
        assert told['energy_final_eV_per_atom'] == final
        assert told['start_energy_error_meV_per_atom'] == pytest.approx(
            1e3 * (told['energy_first_step_eV_per_atom'] - final)
        )
        assert told['max_force_final_eV_per_A'] < 0.06  # 0.05 asked for, the static run sees another basis
        assert told['wall_time_s'] == told['core_time_s'] == job.outputs.misc['run_stats']['elapsed_time']
        assert chain.outputs[leg]['misc'] == process.outputs.misc
        assert chain.outputs[leg]['structure'] == process.outputs.relax.structure

    assert comparison['ionic_steps_saved'] == comparison['raw']['ionic_steps'] - comparison['predicted']['ionic_steps']
    assert comparison['same_minimum'] is True
    assert abs(comparison['energy_difference_final_meV_per_atom']) < 5
    assert comparison['remarks'] == []
    assert chain.outputs.structure == chain.outputs.predicted.structure
    assert chain.outputs.guard['verdict'] == comparison['guard']['verdict'] == 'accepted'
    assert_same_settings(called)


@pytest.mark.slow
def test_only_the_predicted_leg_relaxes_by_another_algorithm_and_the_comparison_says_so(make_builder):
    overrides = {'predicted_algo': 'rd'}
    _, chain = run_get_node(make_builder(reference_leg='always', overrides=overrides))
    assert chain.exit_status == 0, chain.exit_message
    called = links_of(chain)
    tags = {leg: vasp_jobs(called[f'relax_{leg}'], 'relax_01')[0].inputs.parameters.get_dict() for leg in LEGS}
    assert {leg: tags[leg].pop('ibrion') for leg in LEGS} == {'raw': 2, 'predicted': 1}
    assert tags['raw'] == tags['predicted']
    comparison = chain.outputs.comparison.get_dict()
    assert [comparison[leg]['algo'] for leg in ('raw', 'predicted')] == ['cg', 'rd']
    (remark,) = comparison['remarks']
    assert '`rd` from the prediction' in remark
    assert '`cg` from the raw structure' in remark


def test_an_unknown_algorithm_is_refused(make_builder):
    with pytest.raises(ValueError, match='`predicted_algo`: expected `cg` or `rd`, found `bfgs`'):
        make_builder(overrides={'predicted_algo': 'bfgs'})


def assert_same_settings(called: dict[str, orm.ProcessNode]) -> None:
    """The legs differ in where they start and in nothing else."""
    raw, predicted = (vasp_jobs(called[f'relax_{leg}'], 'relax_01')[0] for leg in LEGS)
    assert raw.inputs.parameters.get_dict() == predicted.inputs.parameters.get_dict()
    assert raw.inputs.kpoints == predicted.inputs.kpoints == called['kpoints'].outputs.result
    assert raw.inputs.code == predicted.inputs.code
    assert raw.inputs.parameters['isif'] == 3
    assert called['relax_predicted'].inputs.structure == called['guard'].outputs.structure
    links = [called[f'relax_{leg}'].base.links.get_incoming(link_type=LinkType.INPUT_WORK).all() for leg in LEGS]
    of_raw, of_predicted = ({link.link_label: link.node.uuid for link in leg} for leg in links)
    assert {name for name in of_raw if of_raw[name] != of_predicted[name]} == {'structure'}  # nodes, not content
    assert set(raw.inputs.monitors) == {'stdout'}


def test_positions_alone_keep_the_cell_in_the_prediction_and_in_vasp(make_builder):
    builder = make_builder(freedom='positions', reference_leg='never')
    results, chain = run_get_node(builder)
    assert chain.exit_status == 0
    called = links_of(chain)
    assert 'relax_raw' not in called
    assert results['predicted_structure'].cell == builder.structure.cell  # held by the network, not by the guard alone
    assert called['relax_predicted'].inputs.structure.cell == builder.structure.cell
    assert results['structure'].cell == pytest.approx(np.array(builder.structure.cell), abs=1e-9)
    (job,) = vasp_jobs(called['relax_predicted'], 'relax_01')
    assert job.inputs.parameters['isif'] == 2
    assert 'singlepoint' not in links_of(called['relax_predicted'])
    comparison = results['comparison'].get_dict()
    assert comparison['raw'] is None
    assert 'ionic_steps_saved' not in comparison
    assert comparison['remarks'] == ['No reference leg was asked for']
    assert comparison['predicted']['static_wall_time_s'] is None


def test_vasp_goes_on_from_the_raw_structure_when_the_network_crashes(make_builder, make_scripted_code):
    code = make_scripted_code(FAILS, 'e3relax', 'e3relax.predict')
    results, chain = run_get_node(make_builder(network_code=code, **POSITIONS))
    assert chain.exit_status == 0
    called = links_of(chain)
    assert set(called) == {'kpoints', 'network', 'relax_raw', 'compare'}
    assert not called['network'].is_finished_ok
    comparison = results['comparison'].get_dict()
    assert comparison['predicted'] is None
    assert comparison['raw']['finished']
    assert 'The network failed with exit code' in comparison['remarks'][0]
    assert results['structure'] == results['raw']['structure']


def test_a_rejected_prediction_costs_no_second_relaxation(make_builder, monkeypatch):
    submit = E3RelaxVaspWorkChain._submit_legs

    def submit_and_checkpoint(self, *legs):
        submitted = submit(self, *legs)
        serialize(self.ctx)  # as a daemon does after each step; it takes no node that is not stored
        return submitted

    monkeypatch.setattr(E3RelaxVaspWorkChain, '_submit_legs', submit_and_checkpoint)
    bounds = {'displacement_max_A': 0.0, 'uncertainty_max_A': 1e-6}
    overrides = {'guard': bounds, 'static_run': 'with-reference'}
    results, chain = run_get_node(make_builder(overrides=overrides, **POSITIONS))
    assert chain.exit_status == 0, chain.exit_message
    assert 'relax_predicted' not in links_of(chain)
    assert results['guard']['verdict'] == 'rejected'
    assert 'predicted_structure' in results
    comparison = results['comparison'].get_dict()
    assert comparison['predicted'] is None
    assert 'The guard rejected the prediction; a site moves by' in comparison['remarks'][0]
    assert 'rejected' in comparison['guard']['verdict']
    (row,) = links_of(chain)['network'].outputs.report['structures']
    assert row['uncertainty_A'] > 1e-4
    assert results['guard']['numbers']['uncertainty_A'] == pytest.approx(row['uncertainty_A'], rel=1e-12)
    assert comparison['network']['uncertainty_A'] == results['guard']['numbers']['uncertainty_A']
    assert '; the network expects errors' in comparison['remarks'][0]


@pytest.mark.parametrize('reference_leg', [pytest.param('always', marks=pytest.mark.slow), 'never'])
def test_the_raw_leg_steps_in_when_vasp_fails_from_the_prediction(make_builder, make_scripted_code, reference_leg):
    code = make_scripted_code(FAILS_FROM_THE_PREDICTION, 'e3relax-vasp-standin', 'vasp.vasp')
    results, chain = run_get_node(make_builder(vasp_code=code, reference_leg=reference_leg, overrides=ONE_TRY))
    assert chain.exit_status == 0, chain.exit_message
    called = links_of(chain)
    assert not called['relax_predicted'].is_finished_ok
    assert results['structure'] == called['relax_raw'].outputs.relax.structure
    comparison = results['comparison'].get_dict()
    assert comparison['raw']['finished']
    assert not comparison['predicted']['finished']
    failure, cost = comparison['remarks'][-2:]
    assert 'The relaxation from the prediction failed' in failure
    assert cost.startswith('No VASP run from the prediction wrote what it cost')


def test_a_killed_and_restarted_run_counts_as_spent(make_builder, make_scripted_code, tmp_path):
    lines = KILLED_ONCE.format(flag=tmp_path / 'killed')
    code = make_scripted_code(lines, 'e3relax-vasp-standin', 'vasp.vasp')
    results, chain = run_get_node(make_builder(vasp_code=code, network_code=None, **POSITIONS))
    assert chain.exit_status == 0, chain.exit_message
    killed, restarted = vasp_jobs(links_of(chain)['relax_raw'], 'relax_01')
    assert 'run_stats' not in killed.outputs.misc.get_dict()
    told = results['comparison']['raw']
    assert (told['vasp_runs'], told['finished'], told['wall_time_s']) == (2, True, None)
    steps = [job.outputs.misc['run_status']['last_iteration_index'][0] for job in (killed, restarted)]
    assert told['ionic_steps'] == sum(steps)
    assert steps[0] == 2
    assert told['electronic_steps'] == sum(read_outcar(job).count('Iteration') for job in (killed, restarted))


@pytest.mark.parametrize('name', ['compare', 'find_other_environment'])
def test_a_comparison_that_fails_loses_no_result(make_builder, monkeypatch, name):
    """The report of the network is checked before it comes here, so that the fault has to be put into the ledger."""

    def fail(*_, **__):
        raise KeyError('timings_s')

    monkeypatch.setattr(chain_module, name, fail)
    results, chain = run_get_node(make_builder(reference_leg='always', **POSITIONS))
    assert chain.exit_status == E3RelaxVaspWorkChain.exit_codes.ERROR_COMPARISON_FAILED.status
    assert "KeyError('timings_s')" in chain.exit_message
    assert 'comparison' not in results
    assert results['structure'] == results['predicted']['structure']
    for leg in ('raw', 'predicted'):
        assert results[leg]['misc']['total_energies']


@pytest.mark.slow
def test_without_a_network_vasp_relaxes_the_raw_structure(make_builder):
    results, chain = run_get_node(make_builder(network_code=None, **POSITIONS))
    assert chain.exit_status == 0
    assert set(links_of(chain)) == {'kpoints', 'relax_raw', 'compare'}
    assert results['comparison']['remarks'] == ['No network was given']


@pytest.mark.slow
@pytest.mark.daemon
def test_chain_runs_under_a_daemon(make_builder, submit_and_await):
    structure = orm.StructureData(ase=rattled_copper_gold())
    chain = submit_and_await(make_builder(structure=structure, reference_leg='always'), timeout=270)
    assert chain.is_finished_ok, chain.exit_message
    assert chain.outputs.comparison['same_minimum']
    legs = structures_to_crystals({leg: chain.outputs[leg]['structure'] for leg in ('raw', 'predicted')})
    assert is_same_crystal(legs.select([0]), legs.select([1]))
