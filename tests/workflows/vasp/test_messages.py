"""What a person reads of a chain: help, the report, and why it failed."""

import pytest
from aiida import orm
from aiida.cmdline.utils.common import get_workchain_report
from aiida.common.links import LinkType
from aiida.engine import ProcessState, run_get_node

from aiida_e3relax.calculations.predict import E3RelaxCalculation
from aiida_e3relax.workflows.network.base import E3RelaxBaseWorkChain
from aiida_e3relax.workflows.vasp.chain import E3RelaxVaspWorkChain
from aiida_e3relax.workflows.vasp.messages import describe_failure

OF_OTHERS = ('vasp', 'metadata')


@pytest.mark.parametrize('process', [E3RelaxCalculation, E3RelaxBaseWorkChain, E3RelaxVaspWorkChain])
def test_every_input_has_help_and_every_exit_code_a_remedy(process):
    spec = process.spec()
    assert [name for name, port in spec.inputs.items() if name not in OF_OTHERS and not port.help] == []
    inherited = set(process.__bases__[-1].spec().exit_codes)
    assert [code for name, code in spec.exit_codes.items() if name not in inherited and ': ' not in code.message] == []


def test_both_legs_failing_is_an_exit_code_and_the_report_says_what_was_done(make_builder, make_scripted_code):
    code = make_scripted_code('exit 1', 'e3relax-vasp-standin', 'vasp.vasp')
    overrides = {'vasp': {'vasp': {'max_iterations': 1}}}
    builder = make_builder(vasp_code=code, overrides=overrides, freedom='positions', reference_leg='never')
    chain = run_get_node(builder).node
    story = get_workchain_report(chain, 'REPORT', max_depth=1)
    sentences = [
        'The network predicts the relaxed AuCu3',
        'The prediction was accepted by the guard',
        'No reference leg was asked for',
        'VASP relaxes from the prediction',
        'VASP relaxes from the raw structure',
        'The relaxation from the prediction failed with exit code',
        'The relaxation from the raw structure failed with exit code',
        'No relaxation finished',
    ]
    places = [story.index(sentence) for sentence in sentences]
    assert places == sorted(places)
    last_job = max(node.pk for node in chain.called_descendants if node.process_label == 'VaspCalculation')
    assert f'; its last job <{last_job}>: ' in chain.exit_message
    assert 'No VASP relaxation finished (The relaxation from the prediction failed' in chain.exit_message
    assert 'from the raw structure failed' in chain.exit_message
    assert chain.exit_status == E3RelaxVaspWorkChain.exit_codes.ERROR_RELAXATION_FAILED.status
    assert 'structure' not in chain.outputs
    assert not chain.outputs.comparison['raw']['finished']
    assert 'predicted_structure' in chain.outputs


@pytest.mark.parametrize(
    ('state', 'told'),
    [
        (ProcessState.EXCEPTED, 'stopped with an exception (<{job}>): ValueError: Inconsistent requirements. By MPI?'),
        (ProcessState.KILLED, 'was killed (<{job}>)'),
    ],
)
def test_a_failure_says_why_its_last_job_never_ended_by_itself(aiida_localhost, state, told):
    leg = orm.WorkChainNode()
    leg.set_process_state(ProcessState.FINISHED)
    leg.set_exit_status(301)
    leg.set_exit_message('The sub process excepted.')
    leg.store()
    job = orm.CalcJobNode(computer=aiida_localhost, process_type='aiida.calculations:vasp.vasp')
    job.set_process_state(state)
    if state is ProcessState.EXCEPTED:
        job.set_exception('ValueError: Inconsistent requirements.\nBy MPI?')
    job.base.links.add_incoming(leg, LinkType.CALL_CALC, 'iteration_01')
    job.store()
    found = describe_failure(leg)
    assert found == (
        f'failed with exit code 301 (<{leg.pk}>): The sub process excepted; its last job {told.format(job=job.pk)}'
    )
    assert describe_failure(job) == told.format(job=job.pk)
