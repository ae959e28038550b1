"""Rounds of learning in a campaign: when one is due, which model predicts what, and in which order. Nothing runs."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from aiida import orm
from aiida.common.links import LinkType
from ase.build import bulk
from click.testing import CliRunner

from aiida_e3relax.campaign import creation
from aiida_e3relax.campaign.archive import _write_readme
from aiida_e3relax.campaign.creation import create_arm, create_campaign
from aiida_e3relax.campaign.group import CampaignGroup
from aiida_e3relax.campaign.results.learning_records import read_rounds
from aiida_e3relax.campaign.rounds import builder as builder_module
from aiida_e3relax.campaign.rounds.bounds import find_bound_fault, needs_calibration
from aiida_e3relax.campaign.rounds.builder import draw_stopping, model_name
from aiida_e3relax.campaign.rounds.history import describe_origins, read_generations
from aiida_e3relax.campaign.rounds.order import features_of
from aiida_e3relax.campaign.rounds.settings import LearningSettings, alternate, draw_judges, shuffled
from aiida_e3relax.campaign.settings import CampaignSettings, read_content
from aiida_e3relax.campaign.submission import controller as controller_module
from aiida_e3relax.campaign.submission import daemon
from aiida_e3relax.campaign.submission.controller import CampaignController, has_ended
from aiida_e3relax.campaign.submission.due import find_waiting_judges
from aiida_e3relax.campaign.submission.processes import ROUND, State
from aiida_e3relax.campaign.submission.status import read_status
from aiida_e3relax.cli.campaign.status_table import format_notes
from aiida_e3relax.cli.model import model as models
from aiida_e3relax.common.errors import InputError
from aiida_e3relax.crystals.structures import make_crystals
from aiida_e3relax.data.model import E3RelaxModelData
from aiida_e3relax.data.pairs import E3RelaxPairsData
from aiida_e3relax.workflows.vasp.choices import ChainChoices
from tests.campaign.submission.test_arms import build_little, end, store_process
from tests.campaign.submission.test_controller import add_chain, add_network
from tests.gnn.pairs import made_pairs

N = 12
LEARNING = LearningSettings(every=6, judge=0.4, least=2)


@pytest.fixture(autouse=True)
def _fakes(monkeypatch):
    """Let what is submitted be stored and never run, chains have few inputs, and any pairs do for a round."""
    monkeypatch.setattr(daemon.Daemon, 'count_workers', lambda _: 1)
    monkeypatch.setattr(daemon, 'submit', store_process)
    monkeypatch.setattr(ChainChoices, 'chain_builder', build_little)
    pairs = E3RelaxPairsData.from_pairs(made_pairs(3)).store()
    monkeypatch.setattr(builder_module, 'gather_pairs', lambda *_: pairs)


@pytest.fixture
def choices(standin_code, e3relax_code, potential_family, model) -> ChainChoices:
    """The network in front of the stand-in."""
    return ChainChoices(standin_code, e3relax_code, potential_family, 'positions', model, protocol='fast')


@pytest.fixture
def make(choices, tmp_path):
    """A function that makes a campaign of twelve structures, six in a batch, whose model learns."""

    def create(learning: LearningSettings | None = LEARNING, name: str = '', **arguments: Any) -> CampaignGroup:
        structures = {f's{n:02}': orm.StructureData(ase=bulk('Cu', a=3.5 + n / 50)) for n in range(N)}
        values = {'reference_share': 1.0, 'max_running': 30, 'batch_size': 6, 'learning': learning} | arguments
        return create_campaign(f'{tmp_path.name}{name}', structures, **{'choices': choices, **values})

    return create


def advance(group: CampaignGroup, limit: int = 50) -> int:
    """Submit with a new controller, as after a kill."""
    return CampaignController(group).advance(limit)


def predict(group: CampaignGroup) -> None:
    """Let the runs of the network that are there end well."""
    for process in CampaignController(group).look().processes.running:
        if process.process_label == 'E3RelaxBaseWorkChain':
            end(orm.load_node(process.pk), 0)


def relax(group: CampaignGroup) -> list[str]:
    """Submit what is due and let the chains that run end well; return their labels."""
    advance(group)
    running = [process for process in CampaignController(group).look().processes.running if process.label[0] == 's']
    for process in running:
        end(orm.load_node(process.pk))
    return [process.label for process in running]


def labels_of(group: CampaignGroup, place: int = 0) -> list[str]:
    """Return the structures of a batch."""
    batch: Any = orm.load_node(group.settings.batches[place])
    return list(batch.labels)


def rounds_of(group: CampaignGroup) -> list[Any]:
    return [orm.load_node(process.pk) for process in CampaignController(group).look().processes.rounds]


def finish_round(group: CampaignGroup, is_better: bool = True) -> E3RelaxModelData:
    """Let the round that runs end with another model, and return that."""
    (node,) = [node for node in rounds_of(group) if not node.is_terminated]
    before: Any = node.inputs.model
    with before.as_path() as path:
        tuned = E3RelaxModelData(path, {**before.card, 'name': node.label}).store()
    for label, model in (('tuned', tuned), ('model', tuned if is_better else before)):
        model.base.links.add_incoming(node, LinkType.RETURN, label)
    end(node)
    return tuned


def run_to_first_round(group: CampaignGroup) -> list[str]:
    """Store six relaxations that have finished, after which a round is due, and submit that."""
    for place in range(len(group.settings.batches)):
        add_network(group, place, 'finished', 0)
    finished = labels_of(group)[:6]
    for label in finished:
        add_chain(group, label, 'finished', 0)
    advance(group, 1)
    return finished


def test_a_round_follows_so_many_relaxations_and_is_submitted_once(make):
    group = make()
    run_to_first_round(group)
    (node,) = rounds_of(group)
    assert (node.label, node.process_label) == ('round_1_after_6', ROUND)
    assert node.inputs.campaign == group.settings_node
    assert node.inputs.split.get_dict() == {'by': 'as-given', 'replay': 1.0, 'seed': 0}
    parameters = node.inputs.training.train.parameters.get_dict()
    assert parameters['name'] == model_name(group.label, 1)
    assert parameters['new_elements'] is True
    assert not list(CampaignController(group).due_rounds(CampaignController(group).look()))
    assert format_notes(read_status(group))[0] == (
        f'The model is generation 0; round 1, <{node.pk}>, on 6 relaxations: running'
    )


def test_a_round_waits_for_the_judges_that_may_end_yet(make, monkeypatch):
    asked, pairs = [], E3RelaxPairsData.from_pairs(made_pairs(3)).store()
    monkeypatch.setattr(builder_module, 'gather_pairs', lambda plan, name, waiting: asked.append(waiting) or pairs)
    group = make(LearningSettings(every=6, judge=0.6, least=2))
    for place in range(len(group.settings.batches)):
        add_network(group, place, 'finished', 0)
    judges = group.settings.judges
    others = [label for label in group.settings.structures if label not in judges]
    running, failed, killed, unbegun, *ended = judges
    add_chain(group, running, 'running')
    add_chain(group, failed, 'finished', 401)
    add_chain(group, killed, 'killed')
    for label in (*ended, *others):
        add_chain(group, label, 'finished', 0)
    advance(group, 1)
    assert len(rounds_of(group)) == 1
    assert asked == [{running, unbegun}]
    CampaignController(group).retry_failed()
    look = CampaignController(group).look()
    assert find_waiting_judges(group.settings, look.extras, look.processes) == set(judges) - set(ended)


def test_what_has_not_begun_is_predicted_by_the_new_model(make, model):
    group = make()
    finished = run_to_first_round(group)
    tuned = finish_round(group)
    advance(group)
    look = CampaignController(group).look()
    assert look.history.generation == 1
    (run,) = [orm.load_node(p.pk) for p in look.processes.running if p.process_label == 'E3RelaxBaseWorkChain']
    assert run.label == 'batch_1_generation_1'  # of the first batch all have begun
    assert run.inputs.predict.model == tuned
    assert not set(run.inputs.predict.batch.labels) & set(finished)
    generations = read_generations(group.settings.chain['model'], look.history)
    assert [(g.number, g.model) for g in generations] == [(0, model.uuid), (1, tuned.uuid)]
    readme = _write_readme(group.label, group.settings, 9, generations)
    assert f'generation 0 `{model.uuid}`, {model.content_hash}; generation 1 `{tuned.uuid}`, sha256:' in readme
    assert not look.due.chains  # they wait for their prediction
    predict(group)
    assert len(relax(group)) == 6
    assert not rounds_of(group)[1:]  # all have begun: nothing is left to be made better
    assert CampaignController(group).look().is_done


def test_models_are_told_apart_by_their_rounds(make, model):
    """The one of the first round was not taken, so that of the second is generation 1."""
    group = make()
    run_to_first_round(group)
    rejected = finish_round(group, is_better=False)
    group.rounds_asked = 2
    advance(group, 1)
    running = rounds_of(group)[-1]
    assert running.inputs.training.train.parameters['name'] == model_name(group.label, 2)
    with model.as_path() as path:
        waiting = E3RelaxModelData(path, {**model.card, 'name': 'waiting'}).store()
    waiting.base.links.add_incoming(running, LinkType.RETURN, 'tuned')
    assert describe_origins()[waiting.uuid] == f'round 2 of the campaign {group.settings.name}, not judged yet'
    waiting.base.links.add_incoming(running, LinkType.RETURN, 'model')
    end(running)
    origins = describe_origins()
    assert origins[rejected.uuid] == f'round 1 of the campaign {group.settings.name}, not taken'
    assert origins[waiting.uuid] == f'generation 1 of the campaign {group.settings.name}'
    assert model.uuid not in origins
    history = CampaignController(group).look().history
    told = [(each.number, each.generation, each.learnt, each.judges) for each in read_rounds(history)]
    assert told == [(1, None, 18, 9), (2, 1, 18, 9)]  # of `made_pairs(3)`
    pairs = rounds_of(group)[0].inputs.pairs
    with pairs.as_path() as path:
        counted = E3RelaxPairsData(path)
    counted.base.attributes.set(counted.JUDGES_KEY, 4)
    linked = orm.WorkChainNode(label='round_3_after_14')
    linked.base.attributes.set_many({'process_label': ROUND, 'process_state': 'finished', 'exit_status': 412})
    for name, value in (('campaign', group.settings_node), ('pairs', counted.store())):
        linked.base.links.add_incoming(value, LinkType.INPUT_WORK, name)
    linked.store()
    with model.as_path() as path:
        unjudged = E3RelaxModelData(path, {**model.card, 'name': 'unjudged'}).store()
    unjudged.base.links.add_incoming(linked, LinkType.RETURN, 'tuned')
    assert describe_origins()[unjudged.uuid] == f'round 3 of the campaign {group.settings.name}, failed'
    assert [each.judges for each in read_rounds(CampaignController(group).look().history)] == [9, 9, 4]
    run = CliRunner().invoke
    rows = [line.split('\t') for line in run(models, ['list', '--raw']).output.splitlines()]
    assert {row[0]: row[5] for row in rows}[str(rejected.pk)] == origins[rejected.uuid]
    assert f'origin: {origins[rejected.uuid]}\n' in run(models, ['show', str(rejected.pk)]).output


def test_only_what_is_left_of_a_batch_is_predicted_again(make):
    group = make(batch_size=12)
    finished = run_to_first_round(group)
    finish_round(group)
    advance(group)
    (process,) = CampaignController(group).look().processes.renewed[0, 1]
    run: Any = orm.load_node(process.pk)
    assert set(run.inputs.predict.batch.labels) == set(group.settings.structures) - set(finished)
    assert advance(group) == 0


@pytest.mark.parametrize('size', [6, 12])
def test_what_is_tried_once_more_keeps_its_prediction(make, monkeypatch, size):
    """The new model may have learnt from a leg of its chain that finished before the chain failed."""
    group = make(batch_size=size)
    retried = labels_of(group)[0]
    add_chain(group, retried, 'finished', 402)
    group.attempts = {retried: 1}
    for place in range(len(group.settings.batches)):
        add_network(group, place, 'finished', 0)
    for label in labels_of(group)[1:6]:
        add_chain(group, label, 'finished', 0)
    add_chain(group, next(x for x in group.settings.structures if x not in labels_of(group)[:6]), 'finished', 0)
    advance(group, 1)
    finish_round(group)
    assert CampaignController(group).retry_failed() == [retried]
    due = CampaignController(group).look().due
    assert retried in due.chains
    assert retried not in {label for labels in due.to_predict.values() for label in labels}
    asked = []
    find = controller_module._find_prediction
    monkeypatch.setattr(controller_module, '_find_prediction', lambda *args: asked.append(args[0]) or find(*args))
    assert advance(group)
    assert asked == [retried]
    look = CampaignController(group).look()
    runs = [run.label for run in look.processes.runs_with_report(0, look.history.generation)]
    assert runs == ['batch_0']


def test_a_model_that_is_no_better_changes_nothing(make):
    group = make()
    run_to_first_round(group)
    finish_round(group, is_better=False)
    advance(group)
    look = CampaignController(group).look()
    assert look.history.generation == 0
    assert not look.processes.renewed
    assert 'was not taken' in format_notes(read_status(group))[0]


@pytest.mark.parametrize('how', ['fails', 'is refused'])
def test_a_round_that_fails_costs_nothing_but_itself(make, monkeypatch, how):
    group = make()

    def refuse(*_):
        raise InputError('no usable pair')

    if how == 'is refused':
        monkeypatch.setattr(builder_module, 'gather_pairs', refuse)
    run_to_first_round(group)
    if how == 'fails':
        end(rounds_of(group)[0], 411)
    while relax(group):
        pass
    controller = CampaignController(group)
    assert controller.look().is_done
    assert has_ended([controller], [controller.look()])
    assert len(rounds_of(group)) == (how == 'fails')
    notes = '\n'.join(format_notes(read_status(group)))
    assert ('failed' in notes) if how == 'fails' else ('no usable pair' in notes)


def test_a_prediction_that_fails_for_a_new_model_leaves_the_older_one(make):
    group = make(batch_size=12, network_retries=0)
    run_to_first_round(group)
    finish_round(group)
    advance(group)
    (process,) = CampaignController(group).look().processes.renewed[0, 1]
    end(orm.load_node(process.pk), 320)
    due = CampaignController(group).look().due
    assert len(due.chains) == 6
    assert not due.held
    assert 'batch_0_generation_1 failed as a whole' in '\n'.join(format_notes(read_status(group)))
    assert len(relax(group)) == 6


def test_a_batch_that_only_a_new_model_was_given_is_held_and_tried_again(make):
    group = make(network_retries=0)
    add_network(group, 0, 'finished', 0)
    for label in labels_of(group):
        add_chain(group, label, 'finished', 0)
    advance(group, 1)
    finish_round(group)
    advance(group)
    controller = CampaignController(group)
    (process,) = controller.look().processes.renewed[1, 1]
    end(orm.load_node(process.pk), 320)
    status = read_status(group)
    assert [held.n_structures for held in status.held] == [6]
    assert status.networks[State.FAILED] == 1
    assert controller.retry_failed() == ['batch_1']
    assert controller.look().due.networks == (1,)


def test_chains_wait_where_they_are_to(make):
    group = make(dataclasses.replace(LEARNING, wait=True))
    run_to_first_round(group)
    assert advance(group) == 0
    controller = CampaignController(group)
    assert not has_ended([controller], [controller.look()])
    assert 'Chains wait for the round that is due or runs' in format_notes(read_status(group))
    end(rounds_of(group)[0], 411)
    assert advance(group) == 6


def test_rounds_run_beside_what_the_cap_holds_for_and_not_while_paused(make):
    group = make(max_running=1)
    group.is_paused = True
    run_to_first_round(group)
    assert not rounds_of(group)
    group.is_paused = False
    advance(group)
    running = CampaignController(group).look().processes.running
    assert sorted(process.process_label for process in running) == [ROUND, 'E3RelaxVaspWorkChain']


def test_a_round_can_be_asked_for(make):
    group = make(learning=None)
    add_network(group, 0, 'finished', 0)
    add_network(group, 1, 'finished', 0)
    for label in group.settings.structures:
        add_chain(group, label, 'finished', 0)
    look = CampaignController(group).look()
    assert look.is_done
    assert look.round.next_after is None
    group.rounds_asked = 1
    assert advance(group) == 1
    assert advance(group) == 0
    assert rounds_of(group)[0].label == 'round_1_after_12'


def simulate(group: CampaignGroup, **said: float) -> list[str]:
    """Return the structures in the order in which they begin, where reports say this of them."""
    controller = CampaignController(group)
    key = {'uncertain': 'uncertainty_A', 'different': 'distance_to_training'}.get(group.settings.how_to_learn.order)
    report = orm.Dict({'structures': [{'label': label, key: said.get(label)} for label in group.settings.structures]})
    report.store()
    for place in range(len(group.settings.batches)):
        report.base.links.add_incoming(add_network(group, place, 'finished', 0), LinkType.RETURN, 'report')
    processes, begun = controller.look().processes, []
    run = processes.networks[0][-1]
    while left := [label for label, tries in processes.chains.items() if not tries]:
        begun.append(controller._order.sort(left, processes, 0)[0])
        processes.chains[begun[-1]].append(run)  # any process says that it has begun
    return begun


@pytest.mark.parametrize('order', ['given', 'random', 'different'])
def test_judges_have_their_turn_all_along_in_every_order(make, order):
    group = make(dataclasses.replace(LEARNING, order=order))
    begun = simulate(group)
    judges = [label in group.settings.judges for label in begun]
    assert len(group.settings.judges) == 5
    assert [int(np.cumsum(judges)[n]) for n in (2, 5, 8, 11)] == [2, 3, 4, 5]
    others = [label for label in begun if label not in group.settings.judges]
    assert (others == sorted(others)) == (order == 'given')
    if order == 'random':
        batches = [label for place in (0, 1) for label in labels_of(group, place)]
        assert begun == batches  # so that the first to begin are predicted first


@pytest.mark.parametrize('order', ['uncertain', 'different'])
def test_least_certain_and_most_distant_first_by_what_the_newest_model_says(make, order):
    group = make(dataclasses.replace(LEARNING, order=order))
    add_network(group, 0, 'finished', 0)
    assert not CampaignController(group).look().due.chains  # not before all are predicted
    begun = simulate(group, **{f's{n:02}': n / 10 for n in range(1, N)})
    judges = set(group.settings.judges)
    expected = ['s00', *sorted((f's{n:02}' for n in range(1, N)), reverse=True)]  # the network failed for the first
    assert [b for b in begun if b not in judges] == [label for label in expected if label not in judges]


def test_features_tell_elements_and_volumes_apart():
    cells = [bulk('Cu', a=3.6), bulk('Cu', a=3.6) * (2, 1, 1), bulk('Cu', a=3.9), bulk('Au', a=3.6)]
    crystals = make_crystals(
        [a.numbers for a in cells], [a.positions for a in cells], [a.cell.array for a in cells], list('abcd')
    )
    found = features_of(crystals)
    distances = np.linalg.norm(found[0] - found, axis=1)
    assert distances[1] == pytest.approx(0, abs=1e-12)
    assert distances[3] == pytest.approx(np.sqrt(2))
    assert 0 < distances[2] < distances[3]


def test_draws_are_the_same_each_time_and_stay_when_there_are_more():
    labels = [f'l{n}' for n in range(200)]
    judges = draw_judges(labels, 20, seed=3)
    assert judges == draw_judges(labels, 20, seed=3) != draw_judges(labels, 20, seed=4)
    assert len(judges) == 20
    stopping = draw_stopping(labels, 0.15, 0)
    assert 15 < len(stopping) < 45
    assert draw_stopping(labels[:100], 0.15, 0) == stopping & set(labels[:100])
    assert [len(draw_stopping(labels[:n], 0.01, 0)) for n in (2, 7, 8, 12, 40)] == [1, 1, 2, 3, 3]
    assert shuffled(labels, 0, 'x') == shuffled(labels[::-1], 0, 'x') != shuffled(labels, 0, 'y')
    assert alternate(['J', 'K'], list('abcd'), 1 / 3) == ['J', 'a', 'b', 'K', 'c', 'd']
    assert alternate(['K'], list('cd'), 1 / 3, (1, 3)) == ['K', 'c', 'd']
    assert model_name('Zr O/2', 3) == 'Zr-O-2-round-3'


def test_what_cannot_learn_is_refused(make, choices, model):
    with pytest.raises(ValueError, match='only 2 are in the sample of --reference'):
        make(reference_share=0.1)
    with pytest.raises(ValueError, match='10 others to learn from'):
        make(dataclasses.replace(LEARNING, least=10))
    assert [LearningSettings(every=n).judge_share for n in (200, 20, 4)] == [0.1, 0.25, 0.5]
    with pytest.raises(ValueError, match='learn: order: unknown choice'):
        LearningSettings.from_mapping({'every': 3, 'order': 'best'})
    with pytest.raises(ValueError, match='settings: steps: expected a whole number'):
        LearningSettings.from_mapping({'every': 3, 'parameters': {'settings': {'steps': 'many'}}})
    bound = dataclasses.replace(choices, overrides={'guard': {'distance_to_training_max': 1.5}})
    structures = {f's{n}': orm.StructureData(ase=bulk('Cu', a=3.5 + n / 50)) for n in range(N)}
    with pytest.raises(ValueError, match='would reject every prediction'):
        create_campaign('bound', structures, bound, reference_share=1.0, learning=LEARNING)
    bound = dataclasses.replace(choices, overrides={'guard': {'uncertainty_max_A': 0.3}})
    with pytest.raises(ValueError, match='on 10 relaxations that stop the training, and there would be 1: take'):
        create_campaign('bound', structures, bound, reference_share=1.0, learning=LEARNING)
    without = dataclasses.replace(choices, network_code=None, model=None)
    with pytest.raises(ValueError, match='expected a network, which is to learn'):
        create_campaign('none', structures, without, learning=LEARNING)


def test_bounds_hold_where_the_uncertainty_is_scaled_and_where_nothing_is_rejected():
    uncertain, distant = {'uncertainty_max_A': 0.3}, {'distance_to_training_max': 1.5}
    assert find_bound_fault({'mode': 'reject', **uncertain}, 'ensemble', 10) is None
    assert find_bound_fault({'mode': 'reject', **uncertain}, 'deeprelax', 1) is None  # it learns its uncertainty
    assert find_bound_fault({'mode': 'warn', **uncertain, **distant}, 'ensemble', 1) is None
    assert 'there would be 9' in find_bound_fault({'mode': 'reject', **uncertain}, 'ensemble', 9)
    assert needs_calibration({'mode': 'reject', **uncertain}, 'ensemble')
    assert not needs_calibration({'mode': 'reject', **uncertain}, 'deeprelax')
    assert not needs_calibration({'mode': 'warn', **uncertain}, 'ensemble')
    assert not needs_calibration({'mode': 'reject', **distant}, 'ensemble')
    assert 'cannot tell' in find_bound_fault({'mode': 'reject', **distant}, 'e3relax-h2', 100)


def test_a_round_fails_where_a_bound_needs_an_uncertainty_that_cannot_be_scaled(make, choices, monkeypatch):
    """It is the training that sees for how many pairs an uncertainty and an error are there."""
    pairs = E3RelaxPairsData.from_pairs(made_pairs(4)).store()
    split = np.where(np.arange(len(pairs)) < 12, 'val', pairs.pairs.split)
    enough = E3RelaxPairsData.from_pairs(dataclasses.replace(pairs.pairs, split=split)).store()
    monkeypatch.setattr(builder_module, 'gather_pairs', lambda *_: enough)
    monkeypatch.setattr(creation, 'find_bound_fault', lambda *_: None)
    for name, guard in (('bound', {'uncertainty_max_A': 0.3}), ('free', {})):
        group = make(name=name, choices=dataclasses.replace(choices, overrides={'guard': guard}))
        run_to_first_round(group)
        settings = rounds_of(group)[0].inputs.training.train.parameters.get_dict().get('settings', {})
        assert settings.get('needs_calibration', False) == bool(guard)


def test_settings_of_an_older_version_do_not_learn(make):
    group = make(learning=None)
    content = read_content(group.settings_node) | {'schema': 1}
    del content['learning'], content['judges']
    old = CampaignSettings.from_node(orm.Dict(content))
    assert old == group.settings
    assert (old.learning, old.how_to_learn.every) == (None, None)
    assert len(old.judge_set) == 5  # for a round by hand


def test_an_arm_may_learn(make, choices):
    base = make(learning=None)
    arm = create_arm(f'{base.label}-tuned', base, choices, learning=LEARNING)
    assert arm.settings.learning['every'] == 6
    assert len(arm.settings.judges) == 5
    labels = [label for uuid in arm.settings.batches for label in orm.load_node(uuid).labels]
    assert sorted(labels) == sorted(base.settings.structures) != labels
