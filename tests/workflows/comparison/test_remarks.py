import dataclasses

import pytest
from aiida import orm
from aiida.engine import run_get_node

from aiida_e3relax.workflows.comparison.legs import Leg
from aiida_e3relax.workflows.comparison.remarks import find_remarks
from aiida_e3relax.workflows.comparison.vasp_runs import NOTHING_KNOWN
from tests.workflows.comparison.test_ledger import PREDICTED, RAW, leg, run
from tests.workflows.crystals import copper_gold

ONE_RUN = dataclasses.replace(RAW, runs=(run(12),))


def remark_on(raw: Leg | None, predicted: Leg | None) -> str:
    (remark,) = find_remarks(raw, predicted)
    return remark


def ending(force: float | None, cutoff: float | None) -> Leg:
    return dataclasses.replace(
        PREDICTED, last=dataclasses.replace(PREDICTED.last, max_free_force=force), force_cutoff=cutoff
    )


def test_figures_that_are_what_they_say_have_no_remark():
    assert find_remarks(ONE_RUN, PREDICTED) == []
    assert find_remarks(None, PREDICTED) == []
    assert find_remarks(None, None) == []


def test_a_start_that_is_not_self_consistent_is_told():
    breached = dataclasses.replace(RAW, runs=(run(12, starts_converged=False),))
    assert remark_on(breached, PREDICTED).startswith('The first ionic step from the raw structure took all electronic')
    assert find_remarks(dataclasses.replace(breached, first=None), PREDICTED) == []


def test_a_leg_of_several_runs_is_told():
    assert 'from the raw structure took 2 VASP runs' in remark_on(RAW, PREDICTED)
    assert find_remarks(dataclasses.replace(RAW, first=None, last=None), PREDICTED) == []


def test_a_failed_leg_of_which_not_all_is_known_is_told():
    failed = dataclasses.replace(PREDICTED, runs=(run(3), run(5, wall_time=None), run(None)), first=None, last=None)
    remark = remark_on(ONE_RUN, failed)
    assert remark.startswith('2 of 3 VASP runs from the prediction ended before they wrote all that they cost')
    assert remark.endswith('are the least that it spent')
    assert find_remarks(ONE_RUN, dataclasses.replace(failed, runs=(run(3),))) == []
    assert find_remarks(ONE_RUN, dataclasses.replace(failed, runs=(run(3, cores=None),))) == []
    lost = dataclasses.replace(failed, runs=(NOTHING_KNOWN, NOTHING_KNOWN))
    assert remark_on(ONE_RUN, lost).startswith('No VASP run from the prediction wrote what it cost: nobody knows')
    assert find_remarks(ONE_RUN, dataclasses.replace(failed, runs=())) == []


def test_other_versions_of_vasp_are_told():
    other = dataclasses.replace(PREDICTED, runs=(run(3, code_version='6.5.1'),))
    assert 'from the raw structure is by VASP 6.4.2, that from the prediction by VASP 6.5.1' in remark_on(
        ONE_RUN, other
    )
    unknown = dataclasses.replace(PREDICTED, runs=(run(3, code_version=None),))
    assert find_remarks(ONE_RUN, unknown) == []


def test_energies_on_two_scales_are_told_with_the_tags():
    other = dataclasses.replace(PREDICTED, other_surface=('METAGGA', 'ENCUT'))
    assert 'from the prediction has another METAGGA, ENCUT than the first one' in remark_on(ONE_RUN, other)
    assert find_remarks(ONE_RUN, dataclasses.replace(other, last=None)) == []


def test_a_force_on_another_surface_is_not_held_against_the_relaxation():
    other = dataclasses.replace(ending(0.5, 0.02), other_surface=('METAGGA',))
    assert 'the energies of start and end do not compare' in remark_on(ONE_RUN, other)
    assert find_remarks(ONE_RUN, dataclasses.replace(other, first=None)) == []


@pytest.mark.parametrize(
    ('force', 'cutoff', 'told'),
    [(0.0311, 0.02, True), (0.0309, 0.02, False), (0.5, None, False), (None, 0.02, False), (0.0, 0.02, False)],
)
def test_a_force_far_above_the_one_asked_for_is_told(force, cutoff, told):
    remarks = find_remarks(ONE_RUN, ending(force, cutoff))
    assert len(remarks) == told
    if told:
        assert 'from the prediction ends with a force of 0.0311 eV/A where 0.02 eV/A was asked for' in remarks[0]


def test_other_numbers_of_cores_are_told():
    remark = remark_on(ONE_RUN, dataclasses.replace(PREDICTED, runs=(run(3, cores=16),)))
    assert 'from the raw structure ran on 4 cores, that from the prediction on 16' in remark
    assert find_remarks(ONE_RUN, dataclasses.replace(PREDICTED, runs=(run(3, cores=None),))) == []


def test_a_lower_end_of_the_raw_leg_is_told_with_its_output():
    higher = leg(copper_gold(), run(3), energy=-3.19)
    assert 'ends 10.0 meV/atom lower' in remark_on(ONE_RUN, higher)
    assert remark_on(ONE_RUN, higher).endswith('the lower end is `raw.structure`')
    assert find_remarks(ONE_RUN, leg(copper_gold(), run(3), energy=-3.196)) == []
    assert find_remarks(ONE_RUN, leg(copper_gold(), run(3), energy=-3.3)) == []


def test_a_static_run_with_another_cutoff_leaves_no_energy_of_the_start(make_builder):
    overrides = {'vasp': {'static_calc_parameters': {'incar': {'encut': 450, 'nsw': 0, 'ibrion': -1}}}}
    chain = run_get_node(make_builder(network_code=None, overrides=overrides)).node
    assert chain.is_finished_ok, chain.exit_message
    jobs = sorted((node for node in chain.called_descendants if isinstance(node, orm.CalcJobNode)), key=lambda n: n.pk)
    assert [job.inputs.parameters['encut'] for job in jobs] == [400, 450]
    comparison = chain.outputs.comparison
    assert comparison['raw']['start_energy_error_meV_per_atom'] is None
    assert comparison['raw']['energy_final_eV_per_atom'] < comparison['raw']['energy_first_step_eV_per_atom']
    told = next(remark for remark in comparison['remarks'] if 'another ENCUT than' in remark)
    assert any(told in log.message for log in orm.Log.collection.get_logs_for(chain))
