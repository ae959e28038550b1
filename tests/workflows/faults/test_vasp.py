"""Every row of the table of VASP's faults in `docs/faults.md`, with the stand-in failing as the row says."""

from __future__ import annotations

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node

from aiida_e3relax.standin.faults import Fault
from aiida_e3relax.workflows.comparison.vasp_runs import read_run
from aiida_e3relax.workflows.vasp.chain import E3RelaxVaspWorkChain
from aiida_e3relax.workflows.vasp.restarts import ResilientVaspWorkChain
from tests.workflows.crystals import rattled_copper_gold
from tests.workflows.fault_tables import Codes, read_table

ROWS = read_table('VASP')
FORCE_CUTOFF = 0.05
RELAX = {'ibrion': 2, 'isif': 2, 'nsw': 50, 'ediffg': -FORCE_CUTOFF}
MAX_ITERATIONS = 3
LIKE_OTHERS = (
    'killed',
    'killed-early',
    'killed-writing',
    'nsw',
    'zbrent',
    'empty-contcar',
    'empty-vasprun',
    'truncated-vasprun',
)
"""Rows with the same end and the same way there as one that is run with every change; these run with the slow tests."""
ONE_OF_EACH_END = ('unfinished', 'empty-outcar', 'zpotrf')


@pytest.fixture
def run_vasp(make_code, potential_family, tmp_path):
    """Run VASP's work chain on rattled Cu3Au with a fault, and return it and its jobs in order."""

    def run(fault: str, once: bool, incar: dict = RELAX) -> tuple[orm.WorkChainNode, list[orm.CalcJobNode]]:
        environment = f'export E3RELAX_STANDIN_ENGINE=emt OMP_NUM_THREADS=1 E3RELAX_STANDIN_FAULT={fault}'
        if once:
            environment += f' E3RELAX_STANDIN_FAULT_ONCE={tmp_path / "mark"}'
        builder = ResilientVaspWorkChain.get_builder()
        builder.code = make_code('e3relax-vasp-standin', f'vasp-{tmp_path.name}', 'vasp.vasp', prepend_text=environment)
        builder.structure = orm.StructureData(ase=rattled_copper_gold())
        builder.parameters = {'incar': {'encut': 300, 'ediff': 1e-5, 'nelm': 100, **incar}}
        builder.kpoints = orm.KpointsData()
        builder.kpoints.set_kpoints_mesh([1, 1, 1])
        builder.potential_family = potential_family
        builder.potential_mapping = {'Cu': 'Cu', 'Au': 'Au'}
        builder.max_iterations = MAX_ITERATIONS
        builder.calc.metadata.options.resources = {'num_machines': 1}
        node = run_get_node(builder)[1]
        return node, sorted(node.called, key=lambda job: job.pk)

    return run


def positions(structure: orm.StructureData) -> np.ndarray:
    return np.array([site.position for site in structure.sites])


def test_every_fault_of_the_stand_in_is_in_the_table_and_no_other():
    assert set(ROWS) == set(Fault)


@pytest.mark.parametrize(
    'fault', [pytest.param(name, marks=pytest.mark.slow if name in LIKE_OTHERS else []) for name in ROWS]
)
def test_a_fault_that_happens_once_is_mended(run_vasp, fault):
    codes, (goes_on_from, kept) = Codes.parse(ROWS[fault][0]), ROWS[fault][2:4]
    node, jobs = run_vasp(fault, once=True)
    assert ([job.exit_status for job in jobs], node.exit_status) == (codes.jobs, codes.end)
    assert np.linalg.norm(node.outputs.misc['forces'], axis=1).max() < FORCE_CUTOFF
    cost = read_run(jobs[0].outputs.retrieved, jobs[0].outputs.misc if 'misc' in jobs[0].outputs else None)
    assert (cost.ionic_steps is None) == ('not known' in kept)
    start = node.inputs.structure
    if goes_on_from == 'last structure':
        last = jobs[0].outputs.structure
        assert np.abs(positions(last) - positions(start)).max() > 0.01
        assert jobs[1].inputs.structure == last
    else:
        assert jobs[-1].inputs.structure == start
    if goes_on_from == 'the same start':
        assert jobs[1].inputs.parameters.get_dict() == jobs[0].inputs.parameters.get_dict()
        assert not jobs[0].base.caching.is_valid_cache


@pytest.mark.parametrize(
    'fault', [pytest.param(name, marks=[] if name in ONE_OF_EACH_END else pytest.mark.slow) for name in ROWS]
)
def test_a_fault_that_happens_every_time_is_an_error(run_vasp, fault):
    codes = Codes.parse(ROWS[fault][1])
    node, jobs = run_vasp(fault, once=False)
    assert [job.exit_status for job in jobs] == codes.jobs[:MAX_ITERATIONS]
    assert node.exit_status == codes.end


def test_a_static_run_without_results_is_run_again(run_vasp):
    node, jobs = run_vasp('empty-vasprun', once=True, incar={'nsw': 0})
    assert (node.exit_status, len(jobs)) == (0, 2)
    assert 'forces' not in jobs[0].outputs.misc.get_dict()
    assert 'forces' in node.outputs.misc.get_dict()


def test_a_leg_that_fails_leaves_its_last_structure_with_the_kinds_of_the_input(make_builder, make_scripted_code):
    code = make_scripted_code('export E3RELAX_STANDIN_FAULT=unfinished', 'e3relax-vasp-standin', 'vasp.vasp')
    structure = orm.StructureData(ase=rattled_copper_gold())
    named = orm.StructureData(cell=structure.cell)
    for number, site in enumerate(structure.sites):
        named.append_atom(position=site.position, symbols=site.kind_name, name=f'{site.kind_name}{number}')
    overrides = {'vasp': {'vasp': {'max_iterations': 1}}}
    results, chain = run_get_node(make_builder(structure=named, vasp_code=code, network_code=None, overrides=overrides))
    assert chain.exit_status == E3RelaxVaspWorkChain.exit_codes.ERROR_RELAXATION_FAILED.status
    assert 'structure' not in results
    (job,) = (called for called in chain.called_descendants if isinstance(called, orm.CalcJobNode))
    last = results['raw']['last_structure']
    assert [site.kind_name for site in last.sites] == [site.kind_name for site in named.sites]
    np.testing.assert_allclose(positions(last), positions(job.outputs.structure), atol=1e-9)
    assert np.abs(positions(last) - positions(named)).max() > 0.01
