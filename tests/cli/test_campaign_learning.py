"""`create --learn` and `campaign learn`: what they record, refuse and say. Nothing runs."""

from __future__ import annotations

import re
from typing import Any

import ase.build
import ase.io
import numpy as np
import pytest
from aiida import orm
from ase.data import atomic_numbers, reference_states
from click.testing import CliRunner

from aiida_e3relax.campaign.group import load_campaign
from aiida_e3relax.campaign.plan import read_plan
from aiida_e3relax.campaign.rounds import builder as builder_module
from aiida_e3relax.campaign.rounds.history import Generation, History
from aiida_e3relax.campaign.submission import daemon
from aiida_e3relax.campaign.submission.controller import CampaignController
from aiida_e3relax.campaign.submission.lock import lock
from aiida_e3relax.cli.campaign import run
from aiida_e3relax.cli.campaign.commands import campaign
from aiida_e3relax.common.errors import InputError
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.data.model import E3RelaxModelData
from aiida_e3relax.data.pairs import E3RelaxPairsData
from aiida_e3relax.data.structures import structures_to_crystals
from tests.campaign.submission.test_arms import end, store_process
from tests.campaign.submission.test_controller import add_chain
from tests.gnn.pairs import made_pairs


@pytest.fixture
def invoke(e3relax_code, standin_code, potential_family):
    """A function that runs `aiida-e3relax campaign` and returns the exit code and the output."""
    codes = ['--vasp-code', str(standin_code.uuid), '--network-code', str(e3relax_code.uuid)]

    def run(command: str, *words: str) -> tuple[int, str]:
        more = [*codes, '--potential-family', potential_family] if command == 'create' else []
        if '--raw-legs-of' in words:
            more = []
        done = CliRunner().invoke(campaign, [command, *words, *more])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, ' '.join(done.output.split())

    return run


@pytest.fixture
def metals(tmp_path) -> str:
    """A file of ten crystals."""
    path = tmp_path / 'metals.extxyz'
    edge = float(reference_states[atomic_numbers['Cu']]['a'])  # type: ignore[index]
    ase.io.write(path, [ase.build.bulk('Cu', a=edge + n / 50) for n in range(10)])
    return str(path)


@pytest.fixture
def _fake_daemon(monkeypatch):
    """Let what is submitted be stored, and never run, and any pairs do for a round."""
    monkeypatch.setattr(daemon.Daemon, 'count_workers', lambda _: 1)
    monkeypatch.setattr('aiida_e3relax.campaign.submission.daemon.submit', store_process)
    pairs = E3RelaxPairsData.from_pairs(made_pairs(3)).store()
    monkeypatch.setattr(builder_module, 'gather_pairs', lambda *_: pairs)


def test_what_is_to_be_learnt_is_recorded(invoke, metals, tmp_path, model):
    pairs = E3RelaxPairsData.from_pairs(made_pairs(3)).store()
    training = tmp_path / 'training.yaml'
    training.write_text('settings: {learning_rate: 1.0e-4}\ndevice: cuda\noptions: {max_wallclock_seconds: 3600}\n')
    words = ['every=5', 'order=uncertain', 'least=3', 'wait=yes', 'replay=2', f'replay-of={pairs.pk}']
    words += [f'training={training}']
    code, output = invoke('create', tmp_path.name, '--from', metals, '--model', 'default', '--learn', *words)
    assert code == 0, output
    assert (
        'Its model learns after every 5 relaxations; those first of which the newest model is least certain; 5 '
        'structures, drawn at random, judge and are never learnt from; no chain starts meanwhile.'
    ) in output
    settings = load_campaign(tmp_path.name).settings
    how = settings.how_to_learn
    assert (how.every, how.order, how.judge, how.least, how.wait) == (5, 'uncertain', 0.5, 3, True)
    assert (how.replay, how.replay_of) == (2.0, [pairs.uuid])
    assert how.parameters == {'settings': {'learning_rate': 1e-4}, 'device': 'cuda'}
    assert how.options == {'max_wallclock_seconds': 3600}
    assert len(settings.reference_sample) == 5  # as many as are to judge
    assert set(settings.judges) == set(settings.reference_sample)


def test_a_model_that_has_learnt_from_the_structures_is_told(invoke, metals, tmp_path, model):
    ends = [orm.StructureData(ase=atoms) for atoms in ase.io.read(metals, ':3')]
    starts = structures_to_crystals({str(n): end for n, end in enumerate(ends)})
    pairs = E3RelaxPairsData.from_pairs(Pairs(starts, starts, np.full(3, 'train'), np.full(3, 'earlier'))).store()
    with model.as_path() as path:
        card = {**model.card, 'name': f'tuned-{tmp_path.name}', 'made_of': {'pairs': {'a': {'uuid': pairs.uuid}}}}
        tuned = E3RelaxModelData(path, card).store()
    code, output = invoke('create', tmp_path.name, '--from', metals, '--model', str(tuned.pk))
    assert (code, 'the model has learnt from 3 structures of these 10' in output) == (0, True), output
    code, output = invoke('create', f'{tmp_path.name}-arm', '--raw-legs-of', tmp_path.name, '--model', str(tuned.pk))
    assert (code, 'the model has learnt from 3 structures of these 10' in output) == (0, True), output
    code, output = invoke('create', f'{tmp_path.name}-other', '--from', metals, '--model', 'default')
    assert (code, 'has learnt from' in output) == (0, False), output


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['order=random'], 'expected every=N'),
        (['evry=3'], "did you mean 'every'"),
        (['every=3', 'every=4'], 'every is given twice'),
        (['every=few'], '--learn every=few: expected a number'),
        (['every=3', 'order=best'], "--learn: order: unknown choice 'best'"),
        (['every=3', 'wait=maybe'], 'expected yes or no'),
        (['every=3', 'replay=1'], 'expected replay-of=PAIRS beside it'),
        (['every=3', 'replay-of=nothing'], 'expected a training file that is there'),
        (['every=3', 'training=nowhere.yaml'], 'nowhere.yaml'),
        (['every=3', 'code=nothing'], '--learn code=nothing'),
        (['every=3', 'judge=0.5', 'least=6'], 'a round needs 6 others to learn from'),
        (['every=10', 'least=3'], 'give a smaller `every`, such as every=3, or more structures'),
        (['every=200', 'least=3', 'judge=0.3'], 'with every=200 and least=3 none would come before'),
        (['every=3', 'judge=0.5', 'least=5'], 'give a smaller `every`, or `least`, or more structures'),
    ],
)
def test_mistakes(invoke, metals, words, message, tmp_path):
    code, output = invoke('create', tmp_path.name, '--from', metals, '--learn', *words)
    assert (code, message in output) == (1, True), output


def test_so_many_at_once_that_no_round_would_come(invoke, metals, tmp_path):
    words = ('--from', metals, '--model', 'default', '--reference', 'all', '--learn', 'every=8', 'judge=0.4', 'least=3')
    told = '--max-running 3 all 10 structures may have begun before 8 have finished, after which the first round comes'
    code, output = invoke('create', f'{tmp_path.name} crowd', *words, '--max-running', '3')
    assert (code, told in output, output.count('--max-running 2')) == (0, True, 1), output
    code, output = invoke('create', f'{tmp_path.name} few', *words, '--max-running', '2')
    assert (code, 'may have begun' in output) == (0, False), output


@pytest.mark.usefixtures('_fake_daemon')
def test_it_is_told_that_no_round_was_made(invoke, metals, tmp_path, capsys):
    name = tmp_path.name
    words = ('--from', metals, '--model', 'default', '--reference', 'all', '--learn', 'every=8', 'judge=0.4', 'least=3')
    assert invoke('create', name, *words)[0] == 0
    group = load_campaign(name)
    *others, last = group.settings.structures
    for label in others[:7]:
        add_chain(group, label, 'finished', 0)
    told = f'No round of learning was made in {name} before all structures had begun'
    assert 'The next round of learning is due after 8' in invoke('status', name)[1]
    for label in (*others[7:], last):
        add_chain(group, label, 'finished', 0)
    shown = invoke('status', name)[1]
    assert (told in shown, f'aiida-e3relax campaign learn {name}' in shown) == (True, True), shown
    run._say_what_is_next([CampaignController(group)])
    assert told in capsys.readouterr().out
    group.rounds_asked = 1
    assert told not in invoke('status', name)[1]


@pytest.mark.usefixtures('_fake_daemon')
def test_a_round_by_hand_of_a_campaign_that_was_not_told_to_learn(invoke, metals, tmp_path):
    name = tmp_path.name
    assert invoke('create', name, '--from', metals, '--reference', 'all', '--model', 'default')[0] == 0
    code, output = invoke('learn', name)
    told = (
        'a round needs 2 finished relaxations to learn from and 3 that judge and are never learnt from; so far 0 and 0'
    )
    assert (code, told in ' '.join(output.split())) == (1, True), output
    group = load_campaign(name)
    for label in group.settings.structures:
        add_chain(group, label, 'finished', 0)
    invoke('pause', name)
    code, output = invoke('learn', name)
    assert (code, 'is paused: let it go on with' in output, group.rounds_asked) == (1, True, 0)
    invoke('resume', name)
    with lock(group):
        assert 'submits the round' in invoke('learn', name)[1]
    assert group.rounds_asked == 1
    code, output = invoke('learn', name)
    assert code == 0, output
    assert 'Round 1 runs in the daemon, on 10 finished relaxations' in output
    code, output = invoke('learn', name)
    assert (code, 'runs already' in output) == (1, True)
    shown = invoke('status', name)[1]
    assert re.search(r'The model is generation 0; round 1, <\d+>, on 10 relaxations: running', shown)
    assert 'Generations of the model' in shown
    assert orm.QueryBuilder().append(orm.WorkChainNode, filters={'label': 'round_1_after_10'}).count() == 1


@pytest.mark.usefixtures('_fake_daemon')
def test_how_rounds_train_is_set_by_hand_and_stays(invoke, metals, tmp_path, e3relax_code):
    name, other = tmp_path.name, e3relax_code.clone()
    other.label = f'gpu-{name}'
    other.store()
    pairs = E3RelaxPairsData.from_pairs(made_pairs(3)).store()
    (training := tmp_path / 'training.yaml').write_text('settings: {batch_size: 4}\noptions: {priority: high}\n')
    assert invoke('create', name, '--from', metals, '--reference', 'all', '--model', 'default')[0] == 0
    group = load_campaign(name)
    for label in group.settings.structures:
        add_chain(group, label, 'finished', 0)
    for words, message in (
        (['every=5'], 'campaign learn every=5: expected a setting'),
        (['replay=2'], 'campaign learn replay: expected replay-of=PAIRS beside it'),
        (['code=nothing'], 'campaign learn code=nothing'),
        ([f'training={training}', f'training={training}'], 'training is given twice'),
    ):
        code, output = invoke('learn', name, *words)
        assert (code, message in output) == (1, True), output
    assert (group.training, group.rounds_asked) == ({}, 0)
    code, output = invoke('learn', name, f'training={training}', f'code={other.label}', f'replay-of={pairs.pk}')
    assert code == 0, output

    def inputs_of_round(number: int) -> Any:
        query = orm.QueryBuilder().append(orm.WorkChainNode, filters={'label': {'like': f'round_{number}_after%'}})
        linked = [node for node in query.all(flat=True) if node.inputs.campaign == group.settings_node]
        return linked[0]

    first = inputs_of_round(1)
    train = first.inputs.training.train
    assert train.parameters.get_dict()['settings'] == {'batch_size': 4}
    assert (train.code, first.inputs.replay.replay_0, first.inputs.split['replay']) == (other, pairs, 1.0)
    end(first, 411)
    assert f'campaign learn {name} training=FILE' in invoke('status', name)[1]
    code, output = invoke('learn', name, f'replay-of={pairs.pk}', 'replay=0.5')  # the rest stays
    assert code == 0, output
    second = inputs_of_round(2).inputs
    assert second.training.train.parameters.get_dict()['settings'] == {'batch_size': 4}
    assert (second.training.train.code, second.split['replay']) == (other, 0.5)
    assert group.read_extras().training == {
        'parameters': {'settings': {'batch_size': 4}},
        'options': {'priority': 'high'},
        'code': other.uuid,
        'replay_of': [pairs.uuid],
        'replay': 0.5,
    }


def test_a_campaign_without_raw_legs_cannot_judge_a_model(invoke, metals, tmp_path):
    assert invoke('create', tmp_path.name, '--from', metals, '--reference', 'none', '--model', 'default')[0] == 0
    code, output = invoke('learn', tmp_path.name)
    assert (code, 'none of its structures can judge a model' in output) == (1, True), output


@pytest.mark.usefixtures('_fake_daemon')
def test_no_round_by_hand_whose_models_the_guard_would_reject(invoke, metals, tmp_path):
    overrides = tmp_path / 'overrides.yaml'
    overrides.write_text('guard: {distance_to_training_max: 1.5}')
    words = ['--from', metals, '--reference', 'all', '--model', 'default', '--overrides', str(overrides)]
    code, output = invoke('create', tmp_path.name, *words)
    assert code == 0, output
    group = load_campaign(tmp_path.name)
    for label in group.settings.structures:
        add_chain(group, label, 'finished', 0)
    code, output = invoke('learn', tmp_path.name)
    assert (code, 'so that it would reject every prediction of it. Gather its' in output) == (1, True), output
    assert group.rounds_asked == 0
    plan = read_plan(group)
    newest = Generation(0, group.settings.chain['model'], '')
    with pytest.raises(InputError, match='would reject every prediction'):  # nor by the process that runs it
        builder_module.round_builder(plan, History(), newest, 10, set())
