"""Arms of a campaign: which chain waits for which raw leg, and what it is given. Nothing runs here."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import click
import pytest
from aiida import orm
from aiida.common.links import LinkType
from ase.build import bulk
from plumpy.process_states import ProcessState
from sqlalchemy import event
from sqlalchemy.engine import Engine

from aiida_e3relax.campaign import creation
from aiida_e3relax.campaign.arms import arm_choices, arm_name, count_relaxations, find_arms, find_base, load_base
from aiida_e3relax.campaign.creation import create_arm, create_campaign
from aiida_e3relax.campaign.group import CampaignGroup
from aiida_e3relax.campaign.results.table import campaign_frame
from aiida_e3relax.campaign.settings import CampaignSettings
from aiida_e3relax.campaign.submission import daemon
from aiida_e3relax.campaign.submission.controller import (
    CampaignController,
    advance_together,
    has_ended,
    look_together,
)
from aiida_e3relax.campaign.submission.due import Due
from aiida_e3relax.campaign.submission.processes import State
from aiida_e3relax.campaign.submission.status import Waiting, make_status, read_status
from aiida_e3relax.cli.campaign import run
from aiida_e3relax.cli.campaign.status_lines import StatusLines
from aiida_e3relax.cli.campaign.status_table import format_notes
from aiida_e3relax.workflows.vasp.chain import E3RelaxVaspWorkChain
from aiida_e3relax.workflows.vasp.choices import ChainChoices

LABELS = ('c', 'a', 'b', 'd')  # of which the first is not in the sample


def flatten(inputs: Mapping[str, Any], prefix: str = '') -> Iterator[tuple[str, orm.Data]]:
    for name, value in inputs.items():
        if isinstance(value, orm.Data):
            yield prefix + name, value
        elif isinstance(value, Mapping):
            yield from flatten(value, f'{prefix}{name}__')


def store_process(builder: Any) -> orm.WorkChainNode:
    """Store the process of a builder as the engine has it while it runs."""
    process = orm.WorkChainNode(label=builder.metadata.label)
    process.set_process_label(builder.process_class.__name__)
    for name, node in flatten(builder._inputs(prune=True)):
        process.base.links.add_incoming(node if node.is_stored else node.store(), LinkType.INPUT_WORK, name)
    process.store().set_process_state(ProcessState.RUNNING)
    return process


def build_little(_: ChainChoices, structure: orm.StructureData, __: Any = None, **inputs: Any) -> Any:
    """Return the chain of a structure without anything that is for VASP, for which a builder takes its time."""
    builder = E3RelaxVaspWorkChain.get_builder()
    builder.structure, builder.campaign = structure, inputs['campaign']
    builder.reference_leg = orm.Str(inputs['reference_leg'])
    return builder


@pytest.fixture
def little_inputs(monkeypatch):
    """Let chains have few inputs."""
    monkeypatch.setattr(ChainChoices, 'chain_builder', build_little)


@pytest.fixture(autouse=True)
def _fake_daemon(monkeypatch):
    """Let what is submitted be stored, and never run."""
    monkeypatch.setattr(daemon.Daemon, 'count_workers', lambda _: 1)
    monkeypatch.setattr(daemon, 'submit', store_process)


def end(process: orm.WorkChainNode, exit_status: int | None = 0, raw_leg: int | None = None) -> orm.WorkChainNode:
    """Let a process end, killed without `exit_status`; a chain with a raw leg that ended with that exit status."""
    if raw_leg is not None:
        leg = orm.WorkChainNode()
        leg.base.links.add_incoming(process, LinkType.CALL_WORK, 'relax_raw')
        leg.store().set_process_state(ProcessState.FINISHED)
        leg.set_exit_status(raw_leg)
    process.set_process_state(ProcessState.KILLED if exit_status is None else ProcessState.FINISHED)
    if exit_status is not None:
        process.set_exit_status(exit_status)
        process.set_exit_message('')
    return process


def chains_of(group: CampaignGroup) -> dict[str, list[orm.WorkChainNode]]:
    """Return the chains of a campaign by label."""
    found = CampaignController(group).look().processes.chains
    return {label: [orm.load_node(process.pk) for process in tries] for label, tries in found.items() if tries}


def run_network(group: CampaignGroup, exit_status: int = 0) -> None:
    """Let the network run on the next batch of a campaign, and advance what it has to say nothing to."""
    controller = CampaignController(group)
    controller.advance(1)
    (process,) = (tries[-1] for tries in controller.look().processes.networks.values())
    end(orm.load_node(process.pk), exit_status)


def advance(controllers: list[CampaignController], locks: list[Callable[[], None]]) -> int:
    return advance_together(controllers, look_together(controllers), locks, 5, workers=1)


def find_due(group: CampaignGroup) -> Due:
    return CampaignController(group).look().due


@pytest.fixture
def choices(standin_code, e3relax_code, potential_family, model) -> ChainChoices:
    """The network in front of the stand-in."""
    return ChainChoices(standin_code, e3relax_code, potential_family, 'positions', model, protocol='fast')


@pytest.fixture
def base(choices, tmp_path) -> CampaignGroup:
    """A campaign of four structures, three of which are relaxed from the raw crystal, too; its network has run."""
    structures = {label: orm.StructureData(ase=bulk('Cu', a=3.5 + place / 10)) for place, label in enumerate(LABELS)}
    group = create_campaign(tmp_path.name, structures, choices, reference_share=0.75, max_running=9, network_retries=0)
    assert group.settings.reference_sample == ['a', 'b', 'd']
    return group


@pytest.fixture
def arm(base, choices) -> CampaignGroup:
    """An arm of it from a potential, whose run is over."""
    group = create_arm(arm_name(base.label, 'chgnet'), base, arm_choices(choices, 'chgnet'))
    run_network(group)
    return group


def test_an_arm_has_the_structures_the_sample_and_the_settings_of_its_base(base, arm, model):
    of_base, of_arm = base.settings, arm.settings
    assert (of_arm.structures, of_arm.batches, of_arm.seed) == (of_base.structures, of_base.batches, of_base.seed)
    assert of_arm.reference_sample == of_base.reference_sample
    assert of_arm.raw_legs_of == base.settings_node.uuid
    different = {key for key in of_base.chain if of_base.chain[key] != of_arm.chain[key]}
    assert different == {'pre_relaxer', 'model'}
    assert (of_arm.chain['pre_relaxer'], of_arm.chain['model']) == ('chgnet', None)
    assert [group.label for group in find_arms(base)] == [f'{base.label}-chgnet']
    assert find_arms(arm) == []
    assert find_base(of_arm).label == base.label
    assert {node.uuid for node in arm.nodes} == {*of_arm.structures.values(), arm.settings_node.uuid}
    counted = count_relaxations([of_base, of_arm])
    assert (counted.raw, counted.predicted, counted.total) == (3, 8, 11)


def test_a_chain_waits_for_the_raw_leg_of_its_structure_and_takes_it(base, arm):
    assert find_due(arm).waiting == ('a', 'b', 'd')
    assert find_due(arm).chains == ('c',)
    run_network(base)
    CampaignController(base).advance(4)
    of_base = chains_of(base)
    end(of_base['a'][0], 0, raw_leg=0)
    end(of_base['b'][0], None, raw_leg=0)  # killed when the raw leg had finished
    due = find_due(arm)
    assert (due.chains, due.waiting, due.held_with_base) == (('c', 'a', 'b'), ('d',), ())
    notes = format_notes(read_status(arm))
    assert notes == [
        f'1 structure is waiting for raw legs of {base.label}, which come with: aiida-e3relax campaign run {base.label}'
    ]
    for n_submitted in (1, 1, 1, 0):  # each by another controller, as after a kill
        assert CampaignController(arm).advance(1) == n_submitted
    end(of_base['d'][0], 410, raw_leg=401)
    assert find_due(arm).chains == ('d',)
    CampaignController(arm).advance(1)
    references = {label: tries[0].inputs.reference_leg for label, tries in chains_of(arm).items()}
    assert {label: node.value for label, node in references.items()} == {
        'a': of_base['a'][0].uuid,
        'b': of_base['b'][0].uuid,
        'c': 'never',
        'd': 'never',
    }
    assert (references['a'].description, references['c'].description) == ('', 'its raw crystal is not in the sample')
    assert references['d'].description == (
        f'the raw leg did not finish in the campaign `{base.label}`, where the chain <{of_base["d"][0].pk}> ended with '
        'exit code 410'
    )


@pytest.mark.usefixtures('little_inputs')
def test_a_later_try_of_the_base_changes_nothing_that_is_submitted(base, arm):
    run_network(base)
    CampaignController(base).advance(4)
    end(chains_of(base)['a'][0], 0, raw_leg=0)
    end(chains_of(base)['b'][0], 410, raw_leg=401)
    CampaignController(base).retry_failed()  # before the arm goes on without the raw leg
    due = find_due(arm)
    assert (due.chains, due.waiting) == (('c', 'a'), ('b', 'd'))
    CampaignController(base).advance(1)
    CampaignController(arm).advance(4)
    end(chains_of(base)['b'][1], 0, raw_leg=401)  # relaxed from the prediction alone
    assert find_due(arm).chains == ('b',)
    CampaignController(arm).advance(4)
    assert chains_of(arm)['b'][0].inputs.reference_leg.value == 'never'
    base.attempts = {'a': 2, 'b': 3}  # whatever else is tried there
    assert find_due(arm).chains == ()
    assert find_due(arm).waiting == ('d',)
    end(chains_of(arm)['a'][0], 420)
    CampaignController(arm).retry_failed()
    CampaignController(arm).advance(4)
    first, second = chains_of(arm)['a']
    assert second.inputs.reference_leg.value == first.inputs.reference_leg.value == chains_of(base)['a'][0].uuid


@pytest.mark.usefixtures('little_inputs')
def test_what_the_base_holds_back_is_held_back_in_its_arms(base, arm):
    run_network(base, 331)
    CampaignController(arm).advance(1)
    end(chains_of(arm)['c'][0])
    due = find_due(arm)
    assert (due.held_with_base, due.waiting, due.n_held) == (('a', 'b', 'd'), (), 3)
    controllers = [CampaignController(group) for group in (base, arm)]
    assert has_ended(controllers, look_together(controllers))
    status = read_status(arm)
    assert (status.waiting, status.n_left) == (Waiting(base.label, 0, 3), 0)
    assert format_notes(status) == [
        f'3 structures are held back: their raw legs are held back or lost in {base.label}; see why: aiida-e3relax '
        f'campaign status {base.label}; and then: aiida-e3relax campaign run {base.label} --retry-failed'
    ]
    base.raw_on_network_failure = True
    assert find_due(arm).waiting == ('a', 'b', 'd')
    assert not has_ended(controllers, look_together(controllers))


@pytest.mark.usefixtures('little_inputs')
def test_an_arm_waits_where_a_chain_of_the_base_was_killed_and_will_be_tried_again(base, arm):
    run_network(base)
    CampaignController(base).advance(4)
    of_base = chains_of(base)
    end(of_base['a'][0], None)
    of_base['b'][0].set_process_state(ProcessState.EXCEPTED)
    end(of_base['d'][0], 0, raw_leg=0)
    end(of_base['c'][0], 0)
    CampaignController(arm).advance(4)
    end(chains_of(arm)['d'][0])
    end(chains_of(arm)['c'][0])
    due = find_due(arm)
    assert (due.chains, due.waiting, due.held_with_base) == ((), (), ('a', 'b'))
    (note,) = format_notes(read_status(arm))
    assert note.startswith('2 structures are held back')
    assert note.endswith(f'aiida-e3relax campaign run {base.label} --retry-failed')
    controllers = [CampaignController(group) for group in (base, arm)]
    assert has_ended(controllers, look_together(controllers))
    controllers[0].retry_failed()
    assert find_due(arm).waiting == ('a', 'b')
    assert not has_ended(controllers, look_together(controllers))


@pytest.mark.usefixtures('little_inputs')
def test_a_raw_leg_that_is_there_is_taken_outside_the_sample_too(base, arm):
    run_network(base)
    CampaignController(base).advance(4)
    of_base = chains_of(base)['c'][0]
    end(of_base, 0, raw_leg=0)  # its prediction was rejected
    CampaignController(arm).advance(4)
    reference = chains_of(arm)['c'][0].inputs.reference_leg
    assert (reference.value, reference.description) == (of_base.uuid, '')


def test_raw_crystals_alone_are_all_in_the_sample_whatever_an_older_version_drew(choices, tmp_path, monkeypatch):
    structures = {label: orm.StructureData(ase=bulk('Cu', a=3.5 + place / 10)) for place, label in enumerate(LABELS)}
    alone, of_arm = dataclasses.replace(choices, network_code=None, model=None), arm_choices(choices, 'chgnet')
    with monkeypatch.context() as older:
        older.setattr(creation, 'draw_sample', lambda *_: ['a'])
        older.setattr(CampaignSettings, 'relaxes_raw_alone', False)
        base = create_campaign(tmp_path.name, structures, alone, reference_share=0.1)
        arm = create_arm(f'{base.label}-chgnet', base, of_arm)
    assert (base.settings.reference_sample, arm.settings.reference_sample) == (['a'], ['a'])
    run_network(arm)
    assert find_due(arm).waiting == LABELS
    for group in (base, arm):
        assert campaign_frame(group.label)['in_sample'].all()
    later = create_arm(f'{base.label}-later', base, of_arm)
    assert (later.settings.reference_share, later.settings.reference_sample) == (1.0, 'all')
    counted = count_relaxations([base.settings, later.settings])
    assert (counted.raw, counted.predicted) == (4, 4)


@pytest.mark.usefixtures('little_inputs')
def test_an_arm_keeps_the_raw_legs_of_a_base_that_is_deleted(base, arm):
    run_network(base)
    CampaignController(base).advance(3)
    of_base = {label: tries[0] for label, tries in chains_of(base).items()}
    (with_leg, running), uuid = sorted(of_base.keys() - {'c'}), base.settings_node.uuid
    end(of_base[with_leg], 0, raw_leg=0)
    before = CampaignController(arm)
    CampaignGroup.collection.delete(base.pk)
    for due in (before.look().due, find_due(arm)):
        assert due.raw_legs.chains == {with_leg: of_base[with_leg].uuid}
        assert (due.waiting, due.held_with_base) == ((running,), ())
        assert set(due.chains) == {*LABELS} - {running}
        assert uuid in due.raw_legs.missing['d']
    with pytest.raises(ValueError, match='the one that did has been deleted'):
        load_base(arm.label)


def refuse_raw_legs(choices: ChainChoices, structure: orm.StructureData, fixed: Any = None, **inputs: Any) -> Any:
    """Return the chain of a structure as `build_little` does, and refuse raw legs of other chains."""
    if inputs['reference_leg'] not in ('always', 'never'):
        raise ValueError('`reference_leg`: E3RelaxVaspWorkChain<1> had another `vasp.settings`; take the same')
    return build_little(choices, structure, fixed, **inputs)


def test_an_arm_whose_raw_legs_are_refused_lets_the_others_go_on(base, arm, choices, monkeypatch):
    monkeypatch.setattr(ChainChoices, 'chain_builder', refuse_raw_legs)
    run_network(base)
    CampaignController(base).advance(2)
    end(next(tries[0] for label, tries in chains_of(base).items() if label != 'c'), 0, raw_leg=0)
    controllers = [CampaignController(group) for group in (arm, base)]  # the arm first: it would stop the base
    locks = [lambda: None] * 2
    assert advance(controllers, locks) == 3  # an arm's chain without a raw leg, and what is left of the base
    assert advance(controllers, locks) == 0
    message = str(controllers[0].refusal)
    assert f'campaign `{arm.label}`, structure `' in message
    assert 'had another `vasp.settings`' in message
    assert f'aiida-e3relax campaign create NAME --from group:{base.label} --arms' in message
    assert controllers[1].refusal is None
    assert not has_ended(controllers, look_together(controllers))  # the base runs
    assert has_ended(controllers[:1], look_together(controllers[:1]))
    with pytest.raises(ValueError, match='make a new base campaign'):
        CampaignController(arm).advance(1)
    with pytest.raises(click.ClickException, match='make a new base campaign'):
        run._say_what_is_next(controllers)
    with pytest.raises(ValueError, match=r'arm `late`, structure `.`: .*; take the same\. The raw legs of'):
        create_arm('late', base, arm_choices(choices, 'chgnet'))


@pytest.mark.usefixtures('little_inputs')
def test_an_arm_whose_runs_of_the_network_are_refused_lets_the_others_go_on(base, choices, monkeypatch):
    with monkeypatch.context() as older:  # which tried none of them
        older.setattr(creation, '_try_networks', lambda *_: None)
        arm = create_arm(arm_name(base.label, 'dls-volume'), base, arm_choices(choices, 'dls-volume'))
    run_network(base)
    controllers = [CampaignController(group) for group in (base, arm)]
    assert advance(controllers, [lambda: None] * 2) == 4
    assert len(chains_of(base)) == 4
    message = str(controllers[1].refusal)
    assert message.startswith(f'campaign `{arm.label}`, run of the network `batch_0`: `parameters`: dls-volume scales')
    assert not has_ended(controllers, look_together(controllers))  # the base runs
    assert has_ended(controllers[1:], look_together(controllers[1:]))
    with pytest.raises(ValueError, match='run of the network `batch_0`'):
        CampaignController(arm).advance(1)


def test_a_look_takes_as_few_queries_however_many_structures(base, arm):
    controllers = [CampaignController(group) for group in (base, arm)]
    are_queries = []

    def count(_: Any, __: Any, statement: str, *___: Any) -> None:
        are_queries.append(statement.startswith('SELECT'))

    event.listen(Engine, 'before_cursor_execute', count)
    try:
        looks = look_together(controllers)
        for look in looks:
            make_status(look)
        has_ended(controllers, looks)
    finally:
        event.remove(Engine, 'before_cursor_execute', count)
    assert sum(are_queries) == 2 + 6  # one of them for what has not been seen yet, the run of the network of the arm


@pytest.mark.usefixtures('little_inputs')
def test_run_ends_when_a_base_and_its_arm_have(base, arm, monkeypatch, capsys):
    monkeypatch.setattr(daemon, 'submit', lambda builder: end(store_process(builder), 0, raw_leg=0))
    controllers = [CampaignController(group) for group in (base, arm)]
    run._run_until(threading.Event(), controllers, [lambda: None] * 2, 0.0)
    run._say_what_is_next(controllers)
    output = capsys.readouterr().out
    assert all(look.is_done for look in look_together(controllers))
    raw = {label: tries[0].uuid for label, tries in chains_of(base).items()}
    taken = {label: tries[0].inputs.reference_leg.value for label, tries in chains_of(arm).items()}
    assert taken == raw | {'c': 'never'}  # nothing waits for what is outside the sample
    assert f' {arm.label}: batches: 1 finished; structures: 4 finished' in output
    assert 'All has ended' in output
    assert 'waiting for raw legs' not in output


def test_a_note_is_written_once_and_not_beside_the_base(base, arm):
    waiting = read_status(arm)
    later = dataclasses.replace(waiting, waiting=dataclasses.replace(waiting.waiting, n_structures=1))
    lines = StatusLines()
    assert '3 structures are waiting for raw legs' in ' '.join(lines.changes(waiting))
    assert list(lines.changes(later)) == []  # in the singular
    beside = make_status(CampaignController(arm).look(), is_with_base=True)
    assert (beside.waiting, format_notes(beside)) == (None, [])


@pytest.mark.usefixtures('little_inputs')
def test_a_base_and_its_arms_share_the_cap_and_the_base_comes_first(base, arm):
    run_network(base)
    base.max_running = 3
    controllers = [CampaignController(group) for group in (base, arm)]
    confirmed = []
    locks = [lambda: confirmed.append('base'), lambda: confirmed.append('arm')]
    assert advance(controllers, locks) == 3
    assert read_status(base).chains[State.RUNNING] == 3
    assert advance(controllers, locks) == 0
    for label in sorted(chains_of(base)):
        end(chains_of(base)[label][0], 0, raw_leg=0)
    assert advance(controllers, locks) == 3
    assert [read_status(group).chains[State.RUNNING] for group in (base, arm)] == [1, 2]
    assert confirmed.count('base') >= 5
    assert confirmed.count('arm') >= 2


@pytest.mark.usefixtures('little_inputs')
def test_when_a_base_and_its_arms_have_ended(base, arm):
    run_network(base)
    both, alone = [CampaignController(group) for group in (base, arm)], [CampaignController(arm)]
    CampaignController(arm).advance(1)
    end(chains_of(arm)['c'][0])
    assert not has_ended(both, look_together(both))
    base.is_paused = True  # nothing of it runs
    assert has_ended(both, look_together(both))
    assert not has_ended(alone, look_together(alone))  # somebody may resume and run it elsewhere
    arm.is_paused = True
    assert has_ended(alone, look_together(alone))


def test_what_is_no_arm(base, arm, choices, potential_family, standin_code):
    with pytest.raises(ValueError, match='it is an arm and relaxes no raw crystals itself; name the campaign that'):
        load_base(arm.label)
    with pytest.raises(ValueError, match='expected one that relaxes raw crystals itself, found an arm'):
        create_arm('arm of an arm', arm, arm_choices(choices, 'network'))
    other = ChainChoices(standin_code, choices.network_code, potential_family, 'cell', choices.model, protocol='fast')
    with pytest.raises(ValueError, match='expected the `freedom` of the campaign'):
        create_arm('other freedom', base, arm_choices(other, 'chgnet'))
    with pytest.raises(ValueError, match="found 'chgnte'; did you mean `chgnet`"):
        arm_choices(choices, 'chgnte')
    raw_alone = ChainChoices(standin_code, None, potential_family, 'cell')
    with pytest.raises(ValueError, match='expected a code that runs `e3relax`'):
        arm_choices(raw_alone, 'network')
