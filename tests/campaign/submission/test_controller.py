"""What a controller reads out of the graph: counts, failures, what is tried again. Nothing runs here."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.tools import delete_nodes
from ase.build import bulk
from plumpy.process_states import ProcessState

from aiida_e3relax.campaign.creation import create_campaign
from aiida_e3relax.campaign.group import CampaignGroup
from aiida_e3relax.campaign.results.table import campaign_frame
from aiida_e3relax.campaign.settings import ALL, CampaignSettings, draw_sample, read_content
from aiida_e3relax.campaign.submission.controller import CampaignController
from aiida_e3relax.campaign.submission.due import Due
from aiida_e3relax.campaign.submission.paused import PausedJobs
from aiida_e3relax.campaign.submission.processes import LinkedProcesses, State, read_processes
from aiida_e3relax.campaign.submission.status import read_status
from aiida_e3relax.cli.campaign.status_lines import StatusLines
from aiida_e3relax.cli.campaign.status_table import format_failures, format_notes
from aiida_e3relax.workflows.vasp.choices import ChainChoices

LABELS = ['a', 'b', 'c', 'd']


def add_chain(group: CampaignGroup, label: str, state: str, exit_status: int | None = None) -> orm.WorkChainNode:
    """Store a chain as the engine leaves it."""
    return add_process(group, 'E3RelaxVaspWorkChain', label, state, exit_status)


def add_network(group: CampaignGroup, place: int, state: str, exit_status: int | None = None) -> orm.WorkChainNode:
    """Store a run of the network on a batch as the engine leaves it."""
    return add_process(group, 'E3RelaxBaseWorkChain', f'batch_{place}', state, exit_status)


def add_process(
    group: CampaignGroup, process_label: str, label: str, state: str, exit_status: int | None
) -> orm.WorkChainNode:
    chain = orm.WorkChainNode(label=label)
    chain.set_process_label(process_label)
    chain.base.links.add_incoming(group.settings_node, LinkType.INPUT_WORK, 'campaign')
    if structure := group.settings.structures.get(label):
        chain.base.links.add_incoming(orm.load_node(structure), LinkType.INPUT_WORK, 'structure')
    chain.store()
    chain.set_process_state(ProcessState(state))
    if exit_status is not None:
        chain.set_exit_status(exit_status)
        chain.set_exit_message(f'message of {label}')
    return chain


@pytest.fixture
def group(standin_code, potential_family, tmp_path) -> CampaignGroup:
    """A campaign of four structures without a network."""
    choices = ChainChoices(standin_code, None, potential_family, 'cell')
    structures = {label: orm.StructureData(ase=bulk('Cu', a=3.5 + place / 10)) for place, label in enumerate(LABELS)}
    return create_campaign(tmp_path.name, structures, choices, max_running=3)


def test_counts_and_failures(group):
    add_chain(group, 'a', 'finished', 0)
    add_chain(group, 'b', 'finished', 410)
    add_chain(group, 'c', 'excepted')
    status = read_status(group)
    assert {state: n for state, n in status.chains.items() if n} == {
        State.WAITING: 1,
        State.FINISHED: 1,
        State.FAILED: 1,
        State.EXCEPTED: 1,
    }
    assert [(failure.name, failure.labels) for failure in status.failures] == [('410', ['b']), ('excepted', ['c'])]
    assert status.failures[0].message == 'message of b'
    assert list(format_failures(status.failures)) == [
        f'410: message of b More: aiida-e3relax show {status.failures[0].pk}',
        f'excepted: More: aiida-e3relax show {status.failures[1].pk}',
    ]


def add_paused_job(chain: orm.WorkChainNode, reason: str) -> orm.CalcJobNode:
    """Store a job two levels below a chain that AiiDA has paused."""
    between = orm.WorkChainNode()
    between.base.links.add_incoming(chain, LinkType.CALL_WORK, 'raw')
    between.store()
    job = orm.CalcJobNode()
    job.base.links.add_incoming(between, LinkType.CALL_CALC, 'iteration_01')
    job.store()
    job.pause()
    job.set_process_status(reason)
    return job


def test_jobs_that_are_paused_are_told_once_with_what_shows_why(group):
    running, ended = add_chain(group, 'a', 'waiting'), add_chain(group, 'b', 'killed')
    refused = 'Pausing after failed transport task: submit_calculation failed 5 times consecutively'
    one, two = add_paused_job(running, refused), add_paused_job(running, refused)
    add_paused_job(ended, refused)
    two.unpause()
    status = read_status(group)
    assert status.paused_jobs == (PausedJobs(refused, (one.pk,)),)
    (note,) = format_notes(status)
    assert note == f'1 job is paused: {refused}; why, and so what to mend: verdi process report {one.pk}'
    lines = StatusLines()
    assert note in ' '.join(lines.changes(status))
    two.pause()
    two.set_process_status(refused)
    again = read_status(group)
    assert format_notes(again)[0].startswith(f'2 jobs are paused: {refused}')
    assert list(lines.changes(again)) == []


def test_what_failed_is_tried_again_once_for_each_asking_and_the_last_try_counts(group):
    for label, exit_status in zip(LABELS, (0, 410, 0, 410), strict=True):
        add_chain(group, label, 'finished', exit_status)
    controller = CampaignController(group)
    assert controller.look().is_done
    assert controller.retry_failed() == ['b', 'd']
    assert controller.retry_failed() == ['b', 'd']
    assert not controller.look().is_done
    add_chain(group, 'b', 'finished', 0)
    add_chain(group, 'd', 'finished', 410)
    assert controller.look().is_done
    status = read_status(group)
    assert (status.chains[State.FINISHED], status.chains[State.FAILED], status.n_retried) == (3, 1, 2)
    assert CampaignController(group).retry_failed() == ['d']


def test_what_is_sealed_has_ended_though_another_worker_wrote_that_it_runs(group):
    for label, state, exit_status in (('a', 'running', 0), ('b', 'running', 410), ('c', 'running', None)):
        add_chain(group, label, state, exit_status).seal()
    add_chain(group, 'd', 'excepted', 0).seal()
    expected = {'a': State.FINISHED, 'b': State.FAILED, 'c': State.EXCEPTED, 'd': State.FINISHED}
    controller = CampaignController(group)
    assert {label: controller.look().processes.chain_state(label) for label in LABELS} == expected
    assert campaign_frame(group.label)['state'].to_dict() == expected
    assert controller.retry_failed() == ['b', 'c']


def test_the_rate_is_that_of_the_chains_that_run(group):
    assert read_status(group).time_left is None
    add_chain(group, 'a', 'finished', 0)
    add_chain(group, 'b', 'running')
    status = read_status(group)
    assert status.chains_per_hour > 0
    assert status.n_left == 3
    assert status.time_left.total_seconds() == pytest.approx(3 / status.chains_per_hour * 3600)


def test_looks_time_and_again_see_what_one_look_sees(group, monkeypatch):
    controller = CampaignController(group)
    sealed, ended = add_chain(group, 'a', 'finished', 410), add_chain(group, 'b', 'finished', 0)
    running = add_chain(group, 'c', 'running')
    sealed.seal()
    read: list[set[int]] = []
    kept = LinkedProcesses._read

    def count(self: LinkedProcesses, pks: Sequence[int]) -> Any:
        read.append(set(pks))
        return kept(self, pks)

    monkeypatch.setattr(LinkedProcesses, '_read', count)
    controller.look()
    running.set_process_state(ProcessState('finished'))
    running.set_exit_status(0)
    second = add_chain(group, 'a', 'running')
    assert controller.look().processes == read_processes(group.settings, group.settings_node)
    assert read == [{sealed.pk, ended.pk, running.pk}, {ended.pk, running.pk, second.pk}]


def test_a_chain_that_is_deleted_is_submitted_again_by_who_had_seen_it(group):
    controller = CampaignController(group)
    chain = add_chain(group, 'a', 'finished', 0)
    chain.seal()
    assert 'a' not in controller.look().due.chains
    delete_nodes([chain.pk], dry_run=False)
    assert 'a' in controller.look().due.chains
    # SQLite gives the PK of the one that has gone to the next.
    add_chain(group, 'b', 'running')
    processes = controller.look().processes
    assert processes == read_processes(group.settings, group.settings_node)
    assert processes.chain_state('b') is State.RUNNING


def test_processes_of_another_campaign_do_not_count(group, standin_code, potential_family):
    structures = {'a': orm.StructureData(ase=bulk('Cu'))}
    choices = ChainChoices(standin_code, None, potential_family, 'cell')
    other = create_campaign(f'other than {group.label}', structures, choices)
    add_chain(other, 'a', 'finished', 0)
    assert read_status(group).chains[State.WAITING] == 4


def test_structures_keep_their_batch_in_a_database_that_does_not_keep_their_order(
    standin_code, e3relax_code, potential_family, model, tmp_path
):
    structures = {label: orm.StructureData(ase=bulk('Cu', a=3.5 + len(label) / 10)) for label in ('ccc', 'bb', 'a')}
    choices = ChainChoices(standin_code, e3relax_code, potential_family, 'cell', model)
    settings = create_campaign(tmp_path.name, structures, choices, batch_size=2).settings
    # Keys of JSON come back from PostgreSQL the shortest first.
    read = dataclasses.replace(settings, structures=dict(sorted(settings.structures.items())))
    first, second = (orm.load_node(uuid).labels for uuid in read.batches)
    assert read.batch_index() == dict.fromkeys(first, 0) | dict.fromkeys(second, 1)
    assert set(first) == {'ccc', 'bb'}


@pytest.fixture
def with_network(standin_code, e3relax_code, potential_family, model, tmp_path) -> CampaignGroup:
    """A campaign of four structures in two batches."""
    choices = ChainChoices(standin_code, e3relax_code, potential_family, 'cell', model)
    structures = {label: orm.StructureData(ase=bulk('Cu', a=3.5 + place / 10)) for place, label in enumerate(LABELS)}
    return create_campaign(tmp_path.name, structures, choices, reference_share=1.0, batch_size=2)


def find_due(group: CampaignGroup) -> Due:
    return CampaignController(group).look().due


@pytest.mark.parametrize(('state', 'exit_status'), [('finished', 331), ('finished', 340), ('excepted', None)])
def test_structures_are_held_back_where_the_network_failed_for_their_batch(with_network, state, exit_status):
    group = with_network
    assert find_due(group) == Due((0, 1), (), {})
    add_network(group, 0, state, exit_status)
    assert find_due(group) == Due((0, 1), (), {})
    add_network(group, 0, state, exit_status)
    add_network(group, 1, 'finished', 0)
    add_chain(group, 'c', 'finished', 0)
    assert find_due(group) == Due((), ('d',), {0: ['a', 'b']})
    add_chain(group, 'd', 'finished', 410)
    controller = CampaignController(group)
    assert controller.look().is_done
    status = read_status(group)
    assert [(held.label, held.n_structures) for held in status.held] == [('batch_0', 2)]
    assert 'message of batch_0' in status.held[0].reason or state == 'excepted'
    assert status.n_left == 0

    assert controller.retry_failed() == ['d', 'batch_0']
    assert find_due(group) == Due((0,), ('d',), {})
    add_network(group, 0, 'finished', 0)
    assert find_due(group) == Due((), ('a', 'b', 'd'), {})


@pytest.mark.parametrize('exit_status', [120, 310, 311, 322])
def test_what_another_run_does_not_mend_is_not_repeated_by_itself(with_network, exit_status):
    add_network(with_network, 0, 'finished', exit_status)
    add_network(with_network, 1, 'finished', 0)
    assert find_due(with_network) == Due((), ('c', 'd'), {0: ['a', 'b']})
    (held,) = read_status(with_network).held
    assert 'message of batch_0' in held.reason
    assert CampaignController(with_network).retry_failed() == ['batch_0']
    assert find_due(with_network).networks == (0,)
    add_network(with_network, 0, 'finished', exit_status)
    assert find_due(with_network).held == {0: ['a', 'b']}


def test_what_is_held_back_is_relaxed_without_the_network_where_a_person_says_so(with_network):
    for _ in range(2):
        add_network(with_network, 0, 'finished', 331)
    assert find_due(with_network).held
    with_network.raw_on_network_failure = True
    assert find_due(with_network) == Due((1,), ('a', 'b'), {})


def test_a_report_on_each_structure_is_no_failure_of_the_batch(with_network):
    add_network(with_network, 0, 'finished', 350)
    assert find_due(with_network) == Due((1,), ('a', 'b'), {})


def test_processes_with_the_label_of_no_structure_are_told_and_left_alone(group):
    foreign = add_chain(group, 'by hand', 'running')
    network = add_network(group, 7, 'running')
    add_chain(group, 'a', 'finished', 0)
    status = read_status(group)
    assert status.foreign == [foreign.pk, network.pk]
    assert (status.chains[State.FINISHED], status.chains[State.RUNNING]) == (1, 0)
    assert not CampaignController(group).look().processes.running


def test_what_grows_with_the_structures_is_no_attribute_of_the_settings(group):
    node = group.settings_node
    assert not {'structures', 'left_out', 'fixed', 'batches', 'reference_sample', 'judges'} & set(node.get_dict())
    assert list(group.settings.structures) == LABELS  # in their order, which PostgreSQL does not keep of attributes


def test_a_campaign_of_an_older_version_is_read(group):
    content = read_content(group.settings_node) | {'schema': 1}
    del content['network_retries'], content['raw_legs_of']
    assert CampaignSettings.from_node(orm.Dict(content)) == group.settings
    del content['seed']
    with pytest.raises(ValueError, match='expected the key `seed`'):
        CampaignSettings.from_node(orm.Dict(content))


def test_the_settings_are_found_among_other_nodes_of_the_group(group):
    before = group.settings
    group.add_nodes(orm.Dict({'notes': 'mine'}).store())
    assert group.settings == before
    group.remove_nodes(group.settings_node)
    with pytest.raises(ValueError, match='expected a Dict with its settings in the group'):
        _ = group.settings


@pytest.mark.parametrize('name', ['../x', '/tmp/x', 'a/b', '', '.', '..', '-x', ' x', 'a\nb', '\x1b[2J', 'x' * 201])
def test_names_that_no_folder_can_have(standin_code, potential_family, name):
    choices = ChainChoices(standin_code, None, potential_family, 'cell')
    with pytest.raises(ValueError, match='expected a name that a folder can have') as raised:
        create_campaign(name, {'a': orm.StructureData(ase=bulk('Cu'))}, choices)
    assert str(raised.value).isprintable()


def test_samples():
    labels = [f'label_{place}' for place in range(100)]
    sample = draw_sample(labels, 0.25, seed=1)
    assert len(sample) == 25
    assert sample == draw_sample(labels, 0.25, seed=1) != draw_sample(labels, 0.25, seed=2)
    assert (draw_sample(labels, 1.0, 0), draw_sample(labels, 0.0, 0)) == (ALL, [])
