"""What a controller reads out of the graph: counts, failures, what is tried again. Nothing runs here."""

from __future__ import annotations

import dataclasses

import pytest
from aiida import orm
from aiida.common.links import LinkType
from ase.build import bulk
from plumpy.process_states import ProcessState

from aiida_e3relax.campaign.controller import CampaignController
from aiida_e3relax.campaign.creation import create_campaign
from aiida_e3relax.campaign.group import CampaignGroup
from aiida_e3relax.campaign.processes import State
from aiida_e3relax.campaign.settings import ALL, draw_sample
from aiida_e3relax.campaign.status import read_status
from aiida_e3relax.workflows.choices import ChainChoices

LABELS = ['a', 'b', 'c', 'd']


def add_chain(group: CampaignGroup, label: str, state: str, exit_status: int | None = None) -> orm.WorkChainNode:
    """Store a chain as the engine leaves it."""
    chain = orm.WorkChainNode(label=label)
    chain.set_process_label('E3RelaxVaspWorkChain')
    chain.base.links.add_incoming(group.settings_node, LinkType.INPUT_WORK, 'campaign')
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


def test_what_failed_is_tried_again_once_for_each_asking_and_the_last_try_counts(group):
    for label, exit_status in zip(LABELS, (0, 410, 0, 410), strict=True):
        add_chain(group, label, 'finished', exit_status)
    controller = CampaignController(group)
    assert controller.is_done(controller.read())
    assert controller.retry_failed() == ['b', 'd']
    assert controller.retry_failed() == ['b', 'd']
    assert not controller.is_done(controller.read())
    add_chain(group, 'b', 'finished', 0)
    add_chain(group, 'd', 'finished', 410)
    assert controller.is_done(controller.read())
    status = read_status(group)
    assert (status.chains[State.FINISHED], status.chains[State.FAILED], status.n_retried) == (3, 1, 2)
    assert CampaignController(group).retry_failed() == ['d']


def test_the_rate_is_that_of_the_chains_that_run(group):
    assert read_status(group).time_left is None
    add_chain(group, 'a', 'finished', 0)
    add_chain(group, 'b', 'running')
    status = read_status(group)
    assert status.chains_per_hour > 0
    assert status.n_left == 3
    assert status.time_left.total_seconds() == pytest.approx(3 / status.chains_per_hour * 3600)


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


def test_samples():
    labels = [f'label_{place}' for place in range(100)]
    sample = draw_sample(labels, 0.25, seed=1)
    assert len(sample) == 25
    assert sample == draw_sample(labels, 0.25, seed=1) != draw_sample(labels, 0.25, seed=2)
    assert (draw_sample(labels, 1.0, 0), draw_sample(labels, 0.0, 0)) == (ALL, [])
