"""Tuning as a work chain: what is divided, what is judged, and which model is given back."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from aiida import orm
from aiida.common import AttributeDict
from aiida.engine import run_get_node
from scipy import stats

from aiida_e3relax.calculations.learning import (
    compare_models,
    divide_pairs,
    find_lack_of_units,
    find_test_moves,
    held_test_sites,
    join_predictions,
    take_test_crystals,
)
from aiida_e3relax.calculations.predict_parameters import PredictParameters
from aiida_e3relax.crystals.datasets.pairs_file import pairs_hash
from aiida_e3relax.crystals.metrics import coordinate_mae, lattice_mae
from aiida_e3relax.crystals.pairs import Pairs, aligned
from aiida_e3relax.data.batch import StructureBatchData
from aiida_e3relax.data.model import E3RelaxModelData
from aiida_e3relax.data.pairs import RELAXATION, E3RelaxPairsData
from aiida_e3relax.gnn.data.splits import chemical_systems
from aiida_e3relax.gnn.training.run import train
from aiida_e3relax.gnn.training.settings import TrainingSettings
from aiida_e3relax.workflows.training.finetune import E3RelaxFinetuneWorkChain, holding_parameters
from tests.gnn.crystals import PROTOTYPES, batch_of
from tests.gnn.pairs import made_pairs

PARAMETERS = {'device': 'cpu', 'threads': 1}


def different_ends(pairs: Pairs) -> Pairs:
    """Return the pairs with relaxed crystals that differ in their volumes, each by 2 % from the next."""
    volumes = pairs.relaxed.volumes * 1.02 ** np.arange(len(pairs))
    return dataclasses.replace(pairs, relaxed=pairs.relaxed.scaled_to(volumes))


@pytest.fixture
def pairs(aiida_profile) -> E3RelaxPairsData:
    """A node of pairs with a test split."""
    return E3RelaxPairsData.from_pairs(made_pairs()).store()


@pytest.fixture
def run(make_code, tmp_path):
    """A factory of runs of the work chain on the CPU, with the program as the code of all its jobs."""
    code = make_code('e3relax', f'learn-{tmp_path.name}', 'e3relax.train')

    def tune(
        pairs: E3RelaxPairsData, model: orm.Data, settings: dict, predict: dict | None = None, **inputs
    ) -> orm.WorkChainNode:
        training = {'code': code, 'parameters': {**PARAMETERS, 'settings': settings}}
        prediction = {'code': code, 'parameters': {**PARAMETERS, **(predict or {})}}
        builder = {'pairs': pairs, 'model': model, 'training': {'train': training}, **inputs}
        return run_get_node(E3RelaxFinetuneWorkChain, prediction={'predict': prediction}, **builder)[1]

    return tune


@pytest.fixture
def base(aiida_profile, tmp_path) -> E3RelaxModelData:
    """A model that has learnt next to nothing."""
    settings = TrainingSettings(hyperparameters={'features': 8, 'layers': 1}, steps=2, batch_size=4, validate_every=1)
    train(made_pairs(), settings, tmp_path / 'base', torch.device('cpu'))
    return E3RelaxModelData(tmp_path / 'base' / 'best.pt').store()


def test_the_tuned_model_is_taken_if_it_is_better(run, pairs, base):
    split = {'by': 'as-given'}
    campaign = orm.Dict({'name': 'mine'}).store()
    settings = {'steps': 60, 'batch_size': 4, 'learning_rate': 2e-3}
    node = run(pairs, base, settings, split=split, campaign=campaign)
    assert node.is_finished_ok, node.exit_message
    assert node.outputs.tuned.card['made_of']['campaign'] == {'uuid': campaign.uuid, 'name': 'mine'}
    found = node.outputs.evaluation.get_dict()
    assert found['is_better']
    assert node.outputs.model == node.outputs.tuned != base
    errors = found['errors']
    assert errors['tuned']['volume_A3']['mean'] < errors['base']['volume_A3']['mean']
    assert found['difference']['mean_A'] == pytest.approx(
        sum(errors['tuned'][name]['mean'] - errors['base'][name]['mean'] for name in ('coordinates_A', 'lattice_A'))
    )
    assert (found['crystals'], found['failed']) == (9, {'tuned': 0, 'base': 0})


@pytest.mark.slow
def test_a_worse_model_is_not_taken(run, pairs, base):
    worse = run(pairs, base, {'steps': 1, 'batch_size': 4, 'learning_rate': 0.5}, split={'by': 'as-given'})
    assert worse.is_finished_ok, worse.exit_message
    assert not worse.outputs.evaluation['is_better']
    assert worse.outputs.model == base != worse.outputs.tuned


def test_a_training_that_fails_leaves_the_model(run, pairs, model):
    """And that too few pairs to judge by are there was told before it."""
    split = np.where(pairs.pairs.split == 'test', 'train', pairs.pairs.split)
    split[:2] = 'test'
    few = E3RelaxPairsData.from_pairs(dataclasses.replace(pairs.pairs, split=split)).store()
    old = E3RelaxPairsData.from_pairs(dataclasses.replace(pairs.pairs, source=np.full(len(pairs), 'old')))
    node = run(few, model, {'oversampling': {'other': 2}}, split={'by': 'as-given', 'replay': 0.2}, replay={'old': old})
    asked = round(0.2 * few.splits['train'])
    told = [log.message for log in orm.Log.collection.get_logs_for(node)]
    assert len([message for message in told if 'has 2 pairs, expected at least 3: by fewer' in message]) == 1, told
    assert node.exit_status == E3RelaxFinetuneWorkChain.exit_codes.ERROR_TRAINING_FAILED.status
    assert f'{node.outputs.divided.replayed["count"]} of {asked} old pairs asked for are learnt again' in told[0]
    assert 'no pair to train on is of the data set' in node.exit_message
    assert node.outputs.model == model
    assert 'tuned' not in node.outputs


def test_how_a_training_or_a_prediction_ended_is_told_also_where_it_has_no_exit_code(aiida_profile):
    killed, excepted = orm.WorkChainNode(), orm.WorkChainNode()
    killed.set_process_state('killed')
    excepted.set_process_state('excepted')
    excepted.set_exception('OSError: disk full')
    for node in (killed, excepted):
        node.store()
    chain: Any = SimpleNamespace(exit_codes=E3RelaxFinetuneWorkChain.exit_codes, out=lambda *_: None)
    chain.inputs = AttributeDict({'model': None})
    chain.ctx = AttributeDict({'training': killed})
    failed = E3RelaxFinetuneWorkChain.inspect_training(chain)
    assert (failed.status, f'The training was killed (<{killed.pk}>); what it left' in failed.message) == (411, True)
    chain.ctx = AttributeDict({'kinds': [None], 'predicted_tuned': excepted, 'predicted_base': killed})
    failed = E3RelaxFinetuneWorkChain.judge(chain)
    assert failed.status == 412
    assert f'of the tuned model it stopped with an exception (<{excepted.pk}>): OSError: disk full;' in failed.message
    assert f'of the base model it was killed (<{killed.pk}>)' in failed.message


def test_too_few_pairs_to_divide_are_told_before_anything_trains(run, pairs, model):
    few = E3RelaxPairsData.from_pairs(pairs.pairs.select(np.array([0, 1])))
    node = run(few, model, {'steps': 2})
    assert node.exit_status == E3RelaxFinetuneWorkChain.exit_codes.ERROR_SPLIT_IS_EMPTY.status
    assert 'among 2' in node.exit_message
    with pytest.raises(ValueError, match='`split`: split: unknown setting'):
        run(pairs, model, {'steps': 2}, split={'bye': 'random'})


def test_groups_that_stay_together_are_counted(pairs):
    two = np.flatnonzero(np.arange(len(pairs)) % 9 < 2)  # of two systems
    node = E3RelaxPairsData.from_pairs(dataclasses.replace(pairs.pairs.select(two), split=np.full(len(two), 'test')))
    lack = find_lack_of_units(node, orm.Dict({'by': 'chemical-system'}))
    assert 'has 2 groups of pairs that stay together (`by: chemical-system`), expected at least 3' in lack
    assert '`split: {by: random}`' in lack
    assert '`split: {by: random}`' not in find_lack_of_units(node, orm.Dict({'by': 'random'}))
    assert find_lack_of_units(node, orm.Dict({'by': 'as-given'})) is None
    assert find_lack_of_units(E3RelaxPairsData.from_pairs(pairs.pairs), orm.Dict()) is None


def test_what_a_later_step_would_refuse_is_refused_at_once(run, pairs, model):
    with pytest.raises(ValueError, match=r'`training\.train\.parameters`: settings: hyperparameters: expected none'):
        run(pairs, model, {'hyperparameters': {'features': 8}})
    for parameters in ({'potential': 'chgnet', 'start': 'input'}, {'potential': 'mace'}):
        with pytest.raises(ValueError, match=r'`prediction\.predict`: '):
            run(pairs, model, {'steps': 2}, predict=parameters)


def test_chemical_systems_stay_together_and_replay_is_learnt_from_alone(pairs):
    split = orm.Dict({'val': 0.2, 'test': 0.3, 'replay': 0.5, 'seed': 3})
    divided = divide_pairs(pairs, split).pairs
    systems = [frozenset(divided.unrelaxed.select([i]).numbers.tolist()) for i in range(len(divided))]
    splits = {
        system: {name for s, name in zip(systems, divided.split, strict=True) if s == system} for system in systems
    }
    assert all(len(names) == 1 for names in splits.values())
    old = E3RelaxPairsData.from_pairs(dataclasses.replace(pairs.pairs, source=np.full(len(pairs), 'old')))
    both = divide_pairs(pairs, split, old=old).pairs
    n_new = len(divided.of_split('train'))
    assert (both.source == 'old').sum() == round(0.5 * n_new)
    assert divide_pairs(pairs, split).replayed is None
    counts = divide_pairs(pairs, split, old=old).replayed
    assert (counts['count'], counts['asked']) == (round(0.5 * n_new), round(0.5 * n_new))
    assert set(both.split[both.source == 'old']) == {'train'}
    measured = {system for system, name in zip(systems, divided.split, strict=True) if name != 'train'}
    again = [frozenset(both.unrelaxed.select([i]).numbers.tolist()) for i in np.flatnonzero(both.source == 'old')]
    assert not measured & set(again)
    name = np.array(chemical_systems(divided))[divided.split == 'train'][0]  # of a judge that has not been relaxed
    judged = divide_pairs(pairs, orm.Dict({**split.get_dict(), 'replay': 5.0, 'judged': [name]}), old=old).pairs
    replayed = set(np.array(chemical_systems(judged))[judged.source == 'old'].tolist())
    of_all = orm.Dict({**split.get_dict(), 'replay': 5.0, 'judged': chemical_systems(divided)})
    none = divide_pairs(pairs, of_all, old=old)
    assert none.replayed == {
        'count': 0,
        'asked': 5 * n_new,
        'told': f'0 of {5 * n_new} old pairs asked for are learnt again: {len(pairs.pairs.of_split("train"))} are of '
        'the split `train`, of which 0 are of no chemical system that models are measured on',
    }
    assert len(none) == len(pairs)
    untrained = E3RelaxPairsData.from_pairs(dataclasses.replace(pairs.pairs, split=np.full(len(pairs), 'val')))
    assert divide_pairs(pairs, split, old=untrained).replayed['count'] == 0
    every = set(np.array(chemical_systems(divided))[divided.split == 'train'].tolist())
    assert replayed == every - {name}
    assert divide_pairs(pairs, split, old=old).content_hash == divide_pairs(pairs, split, old=old).content_hash
    half = E3RelaxPairsData.from_pairs(pairs.pairs.select(np.arange(0, len(pairs), 2)))
    some = divide_pairs(half, split).pairs  # each system where it was among more
    there = dict(zip(systems, divided.split.tolist(), strict=True))
    assert all(there[frozenset(some.unrelaxed.select([i]).numbers.tolist())] == some.split[i] for i in range(len(some)))


def test_divided_pairs_have_the_card_of_those_that_they_came_from(pairs):
    given, split = pairs.pairs, {'val': 0.2, 'test': 0.3, 'replay': 0.5}
    own, old = (
        {
            'licence': 'MIT',
            'sources': [name],
            'content_hash': pairs_hash(given),
            'settings': {f'key of {name}': {'ENCUT': 400}},
            'options': {'split': 'random'},
            'rejected': {'pairs': 1},
        }
        for name in ('own', 'old')
    )
    node = E3RelaxPairsData.from_pairs(given, own)
    divided = divide_pairs(node, orm.Dict(split), old=E3RelaxPairsData.from_pairs(given, old), none=pairs)
    card = divided.card
    assert (card['licence'], card['sources']) == ('MIT', ['own'])
    assert card['content_hash'] == pairs_hash(divided.pairs) != own['content_hash']
    assert card['divided']['content_hash'] == own['content_hash']
    assert set(card['settings']) == {'key of own', 'key of old'}
    assert not {'options', 'rejected'} & set(card)
    assert card['divided'].items() >= split.items()
    assert card['replayed']['old']['sources'] == ['old']
    assert card['replayed']['none'] == {'content_hash': pairs_hash(pairs.pairs)}
    assert not {'replayed', 'settings'} & set(divide_pairs(pairs, orm.Dict(split)).card)


def test_a_random_division_parts_pairs_of_files_and_of_the_graph(pairs):
    split, given = orm.Dict({'by': 'random', 'val': 0.3, 'test': 0.3}), different_ends(pairs.pairs)
    uuids = [f'uuid-{number}' if number % 2 else '' for number in range(len(given))]
    half = dataclasses.replace(given, about={RELAXATION: np.array(uuids)})
    divided = divide_pairs(E3RelaxPairsData.from_pairs(half), split).pairs
    for part in (divided.split[0::2], divided.split[1::2]):
        assert set(part) == {'train', 'val', 'test'}


@pytest.mark.parametrize('by', ['random', 'prototype'])
def test_relaxations_to_one_crystal_stay_together(pairs, by):
    """Whatever they start from: as it is, or strained and moved, which has another prototype."""
    start = {'NaCl': PROTOTYPES['rock salt'](), 'GaAs': PROTOTYPES['zinc blende'](), 'Mg': PROTOTYPES['hcp']()}
    befores, afters, rng = [], [], np.random.default_rng(2)
    for atoms in start.values():
        moved = atoms.copy()
        moved.set_cell(atoms.cell.array * 1.1, scale_atoms=True)
        moved.rattle(0.1, rng=rng)
        befores += [atoms, moved]
        afters += [atoms, atoms]
    made = Pairs(batch_of(*befores), batch_of(*afters), np.full(6, 'train'), np.full(6, 'made'))
    node, apart = E3RelaxPairsData.from_pairs(made), 0
    for seed in range(8):
        found = divide_pairs(node, orm.Dict({'by': by, 'seed': seed, 'val': 0.3, 'test': 0.3})).pairs.split
        assert found[0::2].tolist() == found[1::2].tolist()
        apart += len(set(found.tolist())) > 1
    assert apart, 'some seed parts the crystals'


def test_crystals_of_one_system_are_no_independent_evidence(pairs):
    """Six crystals each of two systems make one model better beyond chance only where they are taken for twelve."""
    both = pairs.pairs.select(np.arange(len(pairs))[np.arange(len(pairs)) % 9 < 2])
    node = E3RelaxPairsData.from_pairs(dataclasses.replace(both, split=np.full(len(both), 'test')))
    batch = take_test_crystals(node)
    perfect = StructureBatchData(dataclasses.replace(aligned(both).relaxed, labels=batch.crystals.labels))
    for by, units in (('as-given', 12), ('random', 2), ('chemical-system', 2)):
        found = compare_models(node, perfect, batch, orm.Dict({'by': by})).get_dict()
        assert (found['crystals'], found['units']) == (12, units)
        assert found['is_better'] == (by == 'as-given')
    assert found['difference']['interval_A'] is None, 'two are too few'
    assert compare_models(node, perfect, batch)['units'] == 12


def test_units_count_alike_however_many_crystals_they_have(pairs):
    """Four systems, of which one has most of the crystals: mean and interval are those over the four."""
    place = np.arange(len(pairs)) % 9
    chosen = pairs.pairs.select(np.flatnonzero((place == 0) | ((place < 4) & (np.arange(len(pairs)) < 18))))
    node = E3RelaxPairsData.from_pairs(dataclasses.replace(chosen, split=np.full(len(chosen), 'test')))
    batch = take_test_crystals(node)
    perfect = StructureBatchData(dataclasses.replace(aligned(chosen).relaxed, labels=batch.crystals.labels))
    centred = chosen.centred(chosen.unrelaxed), chosen.centred(aligned(chosen).relaxed)
    errors = coordinate_mae(*centred) + lattice_mae(*centred)
    systems = np.array(chemical_systems(chosen))
    means = np.array([-errors[systems == system].mean() for system in np.unique(systems)])
    found = compare_models(node, perfect, batch, orm.Dict({'by': 'chemical-system'}))['difference']
    assert found['mean_A'] == pytest.approx(means.mean())
    interval = stats.t.interval(0.95, 3, means.mean(), stats.sem(means))
    assert found['interval_A'] == pytest.approx(interval)


def test_errors_are_those_of_the_papers_measures(pairs):
    batch = take_test_crystals(pairs)
    test = pairs.pairs.of_split('test')
    relaxed = dataclasses.replace(aligned(test).relaxed, labels=batch.crystals.labels)
    perfect = StructureBatchData(relaxed)
    found = compare_models(pairs, perfect, batch).get_dict()
    for measure, values in found['errors']['tuned'].items():
        assert values['mean'] == pytest.approx(0.0, abs=1e-9), measure
    assert found['errors']['base'] == found['errors']['dummy']
    assert found['errors']['scaled_dummy']['volume_A3']['mean'] == pytest.approx(0.0, abs=1e-9)
    low, high = found['difference']['interval_A']
    assert low < found['difference']['mean_A'] < high < 0
    alone = compare_models(pairs, perfect).get_dict()  # as where the model does not know the elements
    assert alone['errors']['base'] == found['errors']['dummy']
    assert (alone['failed'], alone['is_better']) == ({'tuned': 0, 'base': len(test)}, True)
    missing = StructureBatchData(relaxed.select(np.arange(1, len(relaxed))))
    found = compare_models(pairs, missing, batch).get_dict()
    assert found['failed'] == {'tuned': 1, 'base': 0}
    assert found['errors']['tuned']['lattice_A']['mean'] > 0
    assert not found['is_better']  # though its error has fallen
    assert found['difference']['mean_A'] < 0


def test_models_that_are_judged_are_told_what_vasp_held(pairs):
    given = pairs.pairs
    fixed = np.zeros_like(given.unrelaxed.positions, dtype=bool)
    test = np.flatnonzero(given.split == 'test')
    fixed[given.unrelaxed.offsets[test[1]]] = [True, False, True]
    held = held_test_sites(E3RelaxPairsData.from_pairs(dataclasses.replace(given, fixed=fixed)))
    assert held == {'crystal_1': {'ac': [0]}}
    assert take_test_crystals(pairs).labels[1] == 'crystal_1'
    told = holding_parameters(orm.Dict({'device': 'cpu'}), None, held).get_dict()
    assert told == {'device': 'cpu', 'fixed': held}
    told = holding_parameters(orm.Dict({'vacuum': 'none'}), 'in-plane', held).get_dict()
    assert told == {'freedom': {'moves': 'in-plane', 'vacuum': 'c'}, 'fixed': held}
    PredictParameters.from_mapping(told)
    assert holding_parameters(orm.Dict(), None, held_test_sites(pairs)).get_dict() == {}


def test_what_moved_is_told_of_each_pair(pairs):
    """Also where only masks say it, and where no prediction can hold it. Of others nothing is said of a vacuum."""
    given = pairs.pairs
    test = np.flatnonzero(given.split == 'test')
    words, fixed_cell = np.full(len(given), '', dtype='U25'), np.zeros(len(given), dtype=bool)
    words[test[:3]] = ['in-plane', 'positions and volume', 'volume']
    fixed_cell[test[3]] = True
    fixed = np.zeros_like(given.unrelaxed.positions, dtype=bool)
    for place in test[2:4]:
        fixed[slice(*given.unrelaxed.offsets[place : place + 2])] = True
    masks = {'fixed': fixed, 'fixed_cell': fixed_cell}
    told = dataclasses.replace(given, relaxed=given.unrelaxed, about={'moves': words}, **masks)
    node = E3RelaxPairsData.from_pairs(told)
    found = find_test_moves(node).tolist()
    assert found == ['in-plane', 'cell', 'volume', 'positions', *[''] * (len(test) - 4)]
    assert holding_parameters(orm.Dict({'device': 'cpu'}), '', {}).get_dict() == {'device': 'cpu'}
    assert set(find_test_moves(pairs)) == {''}
    assert take_test_crystals(node, orm.Str('positions')).labels == ['crystal_3']
    assert list(held_test_sites(node)) == list(held_test_sites(node, 'positions')) == ['crystal_3']
    parts = {f'part_{n}': take_test_crystals(node, orm.Str(moves)) for n, moves in enumerate(sorted(set(found)))}
    assert sorted(join_predictions(**parts).labels) == sorted(take_test_crystals(node).labels)


def test_models_are_judged_by_predictions_in_the_freedom_of_each_pair(run, pairs, base):
    given = pairs.pairs
    words = np.where(np.arange(len(given)) % 2, 'volume', 'cell')
    node = E3RelaxPairsData.from_pairs(dataclasses.replace(given, about={'moves': words}))
    tuned = run(node, base, {'steps': 1, 'batch_size': 4}, split={'by': 'as-given'})
    assert tuned.is_finished_ok, tuned.exit_message
    calls = {link.link_label: link.node for link in tuned.base.links.get_outgoing().all()}
    start = take_test_crystals(node).crystals
    for name in ('tuned', 'base'):
        predicted = calls[f'predict_{name}_volume'].outputs.batch.crystals
        assert predicted.labels.tolist() == start.labels[words[given.split == 'test'] == 'volume'].tolist()
        before = start.select(np.flatnonzero(np.isin(start.labels, predicted.labels)))
        growth = np.cbrt(predicted.volumes / before.volumes)
        np.testing.assert_allclose(predicted.cell, growth[:, None, None] * before.cell, rtol=1e-6)
        assert calls[f'predict_{name}_cell'].inputs.predict.parameters['freedom']['moves'] == 'cell'
    assert tuned.outputs.evaluation['failed'] == {'tuned': 0, 'base': 0}


def test_an_error_that_may_have_fallen_by_chance_takes_no_model(pairs):
    batch, relaxed = take_test_crystals(pairs), aligned(pairs.pairs.of_split('test')).relaxed
    labels = batch.crystals.labels
    mixed = relaxed.scaled_to(relaxed.volumes * np.where(np.arange(len(labels)) < 5, 1.0, 1.25))
    tuned = StructureBatchData(dataclasses.replace(mixed, labels=labels))
    found = compare_models(pairs, tuned, batch)
    low, high = found['difference']['interval_A']
    assert low < found['difference']['mean_A'] < high
    assert (found['difference']['mean_A'] < 0 <= high, found['is_better']) == (True, False)
    two = np.arange(2)
    few = E3RelaxPairsData.from_pairs(pairs.pairs.of_split('test').select(two))
    perfect = StructureBatchData(dataclasses.replace(relaxed.select(two), labels=labels[two]))
    found = compare_models(few, perfect, take_test_crystals(few))
    assert found['difference']['mean_A'] < 0
    assert (found['difference']['interval_A'], found['is_better']) == (None, False)


def test_what_vasp_held_is_no_error_of_a_model_that_moves_it(pairs):
    given = pairs.pairs
    held = dataclasses.replace(
        given,
        relaxed=given.unrelaxed,
        fixed=np.ones_like(given.unrelaxed.positions, dtype=bool),
        fixed_cell=np.ones(len(given), dtype=bool),
    )
    node = E3RelaxPairsData.from_pairs(held)
    batch = take_test_crystals(node)
    moved = StructureBatchData(batch.crystals.scaled_to(1.2 * batch.crystals.volumes))
    errors = compare_models(node, moved, batch)['errors']['tuned']
    assert all(values['mean'] == pytest.approx(0.0, abs=1e-9) for values in errors.values())
