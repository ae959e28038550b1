"""The pairs of a round: which relaxations of a campaign are learnt from, and which judge."""

from __future__ import annotations

import dataclasses

import pytest
from aiida import orm
from aiida.common.links import LinkType
from click.testing import CliRunner

from aiida_e3relax.campaign.creation import create_campaign
from aiida_e3relax.campaign.plan import read_plan
from aiida_e3relax.campaign.rounds import builder as builder_module
from aiida_e3relax.campaign.rounds.builder import NO_RAW_LEG, gather_pairs, round_builder
from aiida_e3relax.campaign.rounds.history import Generation, History
from aiida_e3relax.campaign.rounds.settings import LearningSettings
from aiida_e3relax.cli.data import data
from aiida_e3relax.common.errors import InputError
from aiida_e3relax.data.pairs import E3RelaxPairsData
from aiida_e3relax.learning.held_back import SAME_COMPOSITION
from aiida_e3relax.workflows.vasp.choices import ChainChoices
from aiida_e3relax.workflows.vasp.inputs.freedom import predict_all
from tests.gnn.pairs import made_pairs
from tests.learning.test_gather import relax

__all__ = ['relax']  # the fixture

PARAMETERS = {'device': 'cpu', 'dtype': 'float64', 'threads': 1, 'max_edges': 9000}


@pytest.fixture
def campaign(relax, standin_code, e3relax_code, potential_family, model, tmp_path):
    """A campaign of eight crystals that learns, and its chains: s1 has not converged, and five judge.

    The first of these has no raw leg. The chain of the last one failed, whose raw leg had finished, and so did that of
    the last one that is learnt from, with its leg from the prediction.
    """
    chains = {
        f's{n}': relax('E3RelaxVaspWorkChain', 'structure', converged=n != 1, lattice=5 + 0.2 * n) for n in range(8)
    }
    structures = {label: chain.inputs.structure for label, chain in chains.items()}
    potential = {'potential': 'chgnet', 'start': 'network', 'steps': 5, 'layers': True}
    overrides = {'network': {'predict': {'parameters': {**PARAMETERS, **potential}}}}
    choices = ChainChoices(
        standin_code, e3relax_code, potential_family, 'cell', model, protocol='fast', overrides=overrides
    )
    how = LearningSettings(every=4, judge=0.6, least=2, val=0.3)
    group = create_campaign(tmp_path.name, structures, choices, reference_share=1.0, learning=how)
    last_judge, last = group.settings.judges[-1], [label for label in chains if label not in group.settings.judges][-1]
    for label, chain in chains.items():
        copy = orm.WorkChainNode(label=label)
        copy.base.attributes.set_many(chain.base.attributes.all)
        copy.base.links.add_incoming(group.settings_node, LinkType.INPUT_WORK, 'campaign')
        copy.base.links.add_incoming(chain.inputs.structure, LinkType.INPUT_WORK, 'structure')
        if label in (last_judge, last):
            copy.base.attributes.set('exit_status', 402)
            copy.store()
            called_as = 'relax_raw' if label == last_judge else 'relax_predicted'
            relax(caller=copy, called_as=called_as, lattice=5 + 0.2 * int(label[1:]))
            continue
        copy.store()
        chain.outputs.structure.base.links.add_incoming(copy, LinkType.RETURN, 'structure')
        if label in group.settings.judges[1:]:
            chain.outputs.structure.base.links.add_incoming(copy, LinkType.RETURN, 'raw__structure')
    return group


def test_judges_are_the_test_split_and_what_has_not_converged_is_left_out(campaign):
    plan = read_plan(campaign)
    node = gather_pairs(plan, 'mine', set())
    pairs = node.pairs
    labels = [label.split('/')[-1] for label in pairs.unrelaxed.labels.tolist()]
    first, *others = campaign.settings.judges
    assert sorted(labels) == sorted(set(campaign.settings.structures) - {'s1', first})
    assert not node.is_stored
    assert node.base.attributes.get(node.JUDGES_KEY) == len(others), 'the chain of the last one failed'
    assert node.left_out == {**({'not converged': 1} if first != 's1' else {}), NO_RAW_LEG: 1}
    splits = dict(zip(labels, pairs.split.tolist(), strict=True))
    judges = {first, *others}
    assert {label for label, split in splits.items() if split == 'test'} == {*others} - {'s1'}
    assert {split for label, split in splits.items() if label not in judges} == {'train', 'val'}
    builder = round_builder(plan, History(), Generation(0, campaign.settings.chain['model'], ''), 7, set())
    assert builder.metadata.label == 'round_1_after_7'
    assert builder.pairs.splits == node.splits
    assert builder.training.train.code.uuid == campaign.settings.chain['network_code']
    # as the chain has it predict, but for the potential and what is told beside the crystals
    assert builder.prediction.predict.parameters.get_dict() == predict_all(PARAMETERS, 'cell')


def test_of_several_attempts_one_is_learnt_from_and_gathered(campaign, relax):
    label = next(label for label in campaign.settings.structures if label not in {*campaign.settings.judges, 's1'})
    again = orm.WorkChainNode(label=label)
    again.base.attributes.set_many(
        {'process_label': 'E3RelaxVaspWorkChain', 'process_state': 'finished', 'exit_status': 402}
    )
    structure = orm.load_node(uuid=campaign.settings.structures[label])
    for name, node in (('campaign', campaign.settings_node), ('structure', structure)):
        again.base.links.add_incoming(node, LinkType.INPUT_WORK, name)
    relax(caller=again.store(), lattice=5 + 0.2 * int(label[1:]))
    assert again.uuid not in gather_pairs(read_plan(campaign), 'mine', set()).pairs.about['relaxation']
    done = CliRunner().invoke(data, ['--from', f'campaign:{campaign.label}', '--split', 'random'])
    assert done.exit_code == 0, done.output
    assert '1 relaxation left out: another attempt at the same structure is taken' in done.output
    assert f'{len(campaign.settings.structures)} relaxations that finished well' in done.output
    assert again.uuid not in orm.load_node(done.output.split('(')[-1].split(')')[0]).pairs.about['relaxation']


def test_a_group_that_is_a_campaign_is_named_as_one(campaign):
    done = CliRunner().invoke(data, ['--from', f'group:{campaign.label}'])
    assert done.exit_code == 1
    assert f'a campaign, whose group holds its crystals; expected campaign:{campaign.label}' in done.output


def test_what_may_end_as_a_judge_that_has_not_ended_is_left_out_and_counted(campaign, monkeypatch):
    plan = read_plan(campaign)
    judges = campaign.settings.judges
    waiting = {judges[-1]}
    asked = {}

    def hold(batches, judging, waiting, finished):
        assert (list(batches), judging) == (list(campaign.settings.batches), set(judges))
        asked.update(waiting=set(waiting), finished=set(finished))
        return {held}, SAME_COMPOSITION

    monkeypatch.setattr(builder_module, 'find_held_back', hold)
    held = next(label for label in campaign.settings.structures if label not in judges)
    node = gather_pairs(plan, 'mine', waiting)
    assert held not in {label.split('/')[-1] for label in node.pairs.unrelaxed.labels.tolist()}
    assert node.left_out[SAME_COMPOSITION] == 1
    assert asked['waiting'] == waiting
    assert asked['finished'] == set(campaign.settings.structures) - set(judges)


def test_nothing_is_replayed_of_the_systems_of_judges(campaign):
    """Whether they have ended or not."""
    plan, model = read_plan(campaign), campaign.settings.chain['model']
    replay = E3RelaxPairsData.from_pairs(made_pairs(3)).store()
    learning = {**plan.settings.learning, 'replay_of': [replay.uuid]}
    again = dataclasses.replace(plan, settings=dataclasses.replace(plan.settings, learning=learning))
    builder = round_builder(again, History(), Generation(0, model, ''), 7, {campaign.settings.judges[-1]})
    assert builder.split['judged'] == ['Au-Cu']
    assert builder.replay['replay_0'] == replay


def test_too_few_pairs_of_a_split_are_told(campaign):
    plan = read_plan(campaign)
    settings = dataclasses.replace(plan.settings, judges=plan.settings.judges[:2])
    with pytest.raises(InputError, match=r'(left out 1: .*): expected at least 3 to judge by, found [01]$'):
        gather_pairs(dataclasses.replace(plan, settings=settings), 'mine', set())
    settings = dataclasses.replace(plan.settings, judges=list(plan.settings.structures))
    with pytest.raises(InputError, match=r'expected at least 1 to train on, found 0$'):
        gather_pairs(dataclasses.replace(plan, settings=settings), 'mine', set())
