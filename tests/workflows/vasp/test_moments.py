"""The moments at which a run of VASP ended are where the next run starts, if OUTCAR has them and a person wants it."""

import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import run_get_node

from aiida_e3relax.workflows.vasp.restarts import read_moments

ENDS = [0.125, 0.5, -0.25, 2.0]
TABLE = """
 magnetization (x)

# of ion       s       p       d       tot
------------------------------------------
{rows}
--------------------------------------------------
tot          0.000   0.000   0.000   2.375

"""
WITH_MOMENTS = """
export E3RELAX_STANDIN_ENGINE=emt
{program} "$@" || exit 1
cat >> OUTCAR <<END
{table}
END
exit 0
"""


@pytest.fixture
def code_with_moments(make_scripted_code, find_program):
    """Code of a stand-in whose OUTCAR tells of moments: effective medium theory has none."""
    rows = '\n'.join(
        f'    {site}        0.000   0.000   {moment:.3f}   {moment:.3f}' for site, moment in enumerate(ENDS, 1)
    )
    program = 'e3relax-vasp-standin'
    lines = WITH_MOMENTS.format(program=find_program(program), table=TABLE.format(rows=rows))
    return make_scripted_code(lines, program, 'vasp.vasp')


@pytest.mark.parametrize('keeps', [True, pytest.param(False, marks=pytest.mark.slow)])
def test_restarts_go_on_from_the_moments_and_the_static_run_does_if_asked(make_builder, code_with_moments, keeps):
    overrides = {
        'vasp': {
            'relax_settings': {'steps': 8, 'force_cutoff': 0.01, 'keep_magnetization': keeps},
            'vasp': {
                'magmom_mapping': {'Cu': 0.5, 'Au': 0.5, 'default': 0.5},
                'parameters': {'incar': {'lorbit': 11}},
            },
        }
    }
    chain = run_get_node(make_builder(network_code=None, vasp_code=code_with_moments, overrides=overrides)).node
    assert chain.is_finished_ok, chain.exit_message
    jobs = sorted((node for node in chain.called_descendants if isinstance(node, orm.CalcJobNode)), key=lambda n: n.pk)
    given = [job.inputs.parameters['magmom'] for job in jobs]
    assert len(given) > 2
    assert given[0] != ENDS
    assert all(moments == ENDS for moments in given[1:-1])
    assert (given[-1] == ENDS) == keeps


def told(**axes: dict) -> orm.CalcJobNode:
    """A job whose OUTCAR tells of moments along axes."""
    sphere = {axis: {'site_moment': axes.get(axis, {}), 'total_magnetization': {}} for axis in 'xyz'}
    job = orm.CalcJobNode()
    job.store()
    misc = orm.Dict({'site_magnetization': {'sphere': sphere, 'full_cell': [2.0]}})
    misc.base.links.add_incoming(job, LinkType.CREATE, 'misc')
    misc.store()
    return job


@pytest.mark.usefixtures('aiida_profile')
def test_moments_are_read_in_the_order_of_the_sites_and_only_where_they_are_numbers():
    along = {str(site): {'d': 0.1 * site, 'tot': float(site)} for site in (10, 2, 1)}
    assert read_moments(told(x=along)) == [1.0, 2.0, 10.0]
    assert read_moments(told()) is None
    assert read_moments(told(x=along, y=along, z=along)) is None
    assert read_moments(orm.CalcJobNode().store()) is None
