"""A chain that is run again with caching: no job runs anew, and the ledger is the same."""

import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.manage.caching import enable_caching

from tests.workflows.crystals import rattled_copper_gold

CALCULATIONS = 'aiida.calculations:*'


def jobs_of(chain: orm.WorkChainNode) -> list[orm.CalcJobNode]:
    return [node for node in chain.called_descendants if isinstance(node, orm.CalcJobNode)]


@pytest.mark.slow
def test_a_chain_run_again_takes_every_job_from_the_cache(make_builder):
    atoms = rattled_copper_gold()
    atoms.set_cell(1.01 * atoms.cell, scale_atoms=True)  # no other test leaves the same jobs
    builder = make_builder(structure=orm.StructureData(ase=atoms), freedom='positions', reference_leg='never')
    first = run_get_node(builder).node
    with enable_caching(identifier=CALCULATIONS):
        again = run_get_node(builder).node
    assert again.exit_status == 0, again.exit_message
    jobs = jobs_of(again)
    assert {job.process_label for job in jobs} == {'E3RelaxCalculation', 'VaspCalculation'}
    assert {job.base.caching.get_cache_source() for job in jobs} == {job.uuid for job in jobs_of(first)}
    ran, taken = (chain.outputs.comparison.get_dict() for chain in (first, again))
    assert ran['predicted'].pop('vasp_runs_from_cache') == 0
    assert taken['predicted'].pop('vasp_runs_from_cache') == taken['predicted']['vasp_runs'] == 1
    assert taken == ran
    assert again.outputs.structure.cell == first.outputs.structure.cell


def test_a_failed_vasp_is_run_again(make_builder, make_scripted_code, tmp_path):
    lines = f'mkdir {tmp_path / "first"} && exit 1'
    code = make_scripted_code(lines, 'e3relax-vasp-standin', 'vasp.vasp')
    overrides = {'vasp': {'vasp': {'max_iterations': 1}}}
    builder = make_builder(network_code=None, vasp_code=code, freedom='positions', overrides=overrides)
    assert run_get_node(builder).node.exit_status == 410
    with enable_caching(identifier=CALCULATIONS):
        again = run_get_node(builder).node
    assert again.exit_status == 0
    assert not any(job.base.caching.is_created_from_cache for job in jobs_of(again))
