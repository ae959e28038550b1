"""The lines on the jobs of a chain that runs in the foreground."""

import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import ProcessState

from aiida_e3relax.cli.watch import _describe_jobs


@pytest.mark.parametrize(
    ('parameters', 'title'),
    [
        ({}, 'network'),
        ({'potential': 'chgnet', 'start': 'input'}, 'chgnet'),
        ({'potential': 'chgnet', 'start': 'network'}, 'network+chgnet'),
    ],
)
def test_a_line_names_what_predicts_and_why_its_job_stopped(aiida_localhost, parameters, title):
    chain = orm.WorkChainNode().store()
    stage = orm.WorkChainNode()
    stage.base.links.add_incoming(orm.Dict(parameters).store(), LinkType.INPUT_WORK, 'predict__parameters')
    stage.base.links.add_incoming(chain, LinkType.CALL_WORK, 'network')
    stage.store()
    job = orm.CalcJobNode(computer=aiida_localhost, process_type='aiida.calculations:e3relax.predict')
    job.base.links.add_incoming(stage, LinkType.CALL_CALC, 'iteration_01')
    job.set_process_state(ProcessState.EXCEPTED)
    job.set_exception('ValueError: no such thing')
    job.store()
    told = f'{title}: stopped with an exception (<{job.pk}>): ValueError: no such thing'
    assert list(_describe_jobs(chain)) == [told]
