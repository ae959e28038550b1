import dataclasses
import re

import numpy as np
import pytest
from aiida import orm
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_e3relax.calculations.predict_parameters import PredictParameters
from aiida_e3relax.crystals.freedom.freedom import Moves
from aiida_e3relax.workflows.guard import GuardMode, GuardSettings, find_unstated_bound, guard_prediction, judge
from tests.workflows.crystals import copper_gold, rattled_copper_gold, strained, to_crystals

RAW = to_crystals(copper_gold())
GOOD = to_crystals(strained(rattled_copper_gold(), np.diag([0.1, 0.05, 0.02])))


def with_positions(change):
    positions = GOOD.positions.copy()
    change(positions)
    return GOOD.replace(positions, GOOD.cell)


def scaled(factor):
    return GOOD.replace(GOOD.positions * factor, GOOD.cell * factor)


def test_a_sound_prediction_is_accepted_and_measured():
    verdict = judge(RAW, GOOD, GuardSettings())
    assert (verdict.accepted, verdict.word, verdict.reasons) == (True, 'accepted', ())
    assert verdict.numbers['volume_ratio'] == pytest.approx(1.1 * 1.05 * 1.02)
    assert verdict.numbers['strain_min'] == pytest.approx(0.02)
    assert verdict.numbers['strain_max'] == pytest.approx(0.1)
    assert 0 < verdict.numbers['displacement_max_A'] < 0.5
    assert 0.8 < verdict.numbers['contact_ratio'] < 1.2


@pytest.mark.parametrize(
    ('prediction', 'reason'),
    [
        (with_positions(lambda r: np.copyto(r[1], r[0] + [0.9, 0, 0])), r'atoms .*Au 1.* as close as 0\.90 A'),
        (with_positions(lambda r: np.copyto(r[1], r[0])), 'as close as 0.00 A'),
        (scaled(0.69), 'volume changes by a factor of 0.387'),
        (scaled(1.8), r'volume changes by a factor of 6.87 \(bounds 0.4 to 6\)'),
        (to_crystals(strained(copper_gold(), np.diag([1.7, -0.1, -0.1]))), r'strained by -0.10 to \+1.70'),
        (with_positions(lambda r: np.add.at(r, (0, 0), np.nan)), 'not finite'),
        (GOOD.replace(GOOD.positions, np.full((1, 3, 3), np.inf)), 'not finite'),
        (scaled(1e-3), r'cannot be computed with: the cell volume of 6\.\d+e-08 A\^3 holds no 4'),
        (GOOD.replace(GOOD.positions, GOOD.cell * [[[1], [1], [-1]]]), 'mirrored: its volume is -'),
        (dataclasses.replace(GOOD, numbers=GOOD.numbers[::-1]), 'other sites'),
    ],
)
def test_nonsense_is_rejected_with_the_reason(prediction, reason):
    verdict = judge(RAW, prediction, GuardSettings())
    assert (verdict.accepted, verdict.word) == (False, 'rejected')
    assert re.search(reason, ' '.join(verdict.reasons))


def test_a_site_that_moves_too_far_is_seen_against_the_drift_of_all():
    moved = to_crystals(copper_gold().repeat((4, 1, 1)))
    far = moved.positions.copy()
    far += [0.0, 1.0, 0.0]
    settings = GuardSettings(displacement_max_A=1.0, contact_ratio_min=0.0)
    assert judge(moved, moved.replace(far, moved.cell), settings).accepted
    far[0, 0] += 1.5
    verdict = judge(moved, moved.replace(far, moved.cell), settings)
    assert not verdict.accepted
    assert 'against the others' in verdict.reasons[0]


def test_warnings_let_pass_what_is_out_of_bounds_and_keep_the_reason():
    verdict = judge(RAW, scaled(1.8), GuardSettings(mode='warn'))
    assert (verdict.accepted, verdict.word) == (True, 'accepted with warnings')
    assert 'volume' in verdict.reasons[0]


def test_no_mode_lets_pass_what_cannot_be_computed_with():
    broken = with_positions(lambda r: np.add.at(r, (0, 0), np.nan))
    assert judge(RAW, scaled(1.8), GuardSettings(mode='off')).word == 'unchecked'
    assert not judge(RAW, broken, GuardSettings(mode='off')).accepted
    assert not judge(RAW, broken, GuardSettings(mode='warn')).accepted


@pytest.mark.parametrize(
    ('mode', 'bound', 'stated', 'word', 'reason'),
    [
        ('reject', None, None, 'accepted', ''),
        ('reject', None, 5.0, 'accepted', ''),
        ('reject', 0.5, 0.5, 'accepted', ''),
        ('reject', 0.5, 0.51, 'rejected', r'expects errors of 0\.51 A in the lengths of bonds \(bound 0\.5 A\)'),
        ('warn', 0.5, 0.51, 'accepted with warnings', 'expects errors'),
        ('off', 0.5, 0.51, 'unchecked', ''),
        ('reject', 0.5, None, 'rejected', 'no uncertainty is stated .* predict with an ensemble'),
    ],
)
def test_uncertainty_is_looked_at_where_there_is_a_bound(mode, bound, stated, word, reason):
    verdict = judge(RAW, GOOD, GuardSettings(mode=mode, uncertainty_max_A=bound), stated)
    assert verdict.word == word
    assert re.search(reason, ' '.join(verdict.reasons))
    assert bool(verdict.reasons) == bool(reason)
    assert verdict.numbers['uncertainty_A'] == stated


@pytest.mark.parametrize(
    ('mode', 'bound', 'distance', 'word', 'reason'),
    [
        ('reject', None, None, 'accepted', ''),
        ('reject', None, 5.0, 'accepted', ''),
        ('reject', 1.5, 1.5, 'accepted', ''),
        ('reject', 1.5, 1.51, 'rejected', r'unlike what the network was trained on: distance 1\.51 \(bound 1\.5\)'),
        ('warn', 1.5, 1.51, 'accepted with warnings', 'unlike what the network'),
        ('off', 1.5, 1.51, 'unchecked', ''),
        ('reject', 1.5, None, 'rejected', 'no distance .* is stated .*--reference'),
    ],
)
def test_distance_is_looked_at_where_there_is_a_bound(mode, bound, distance, word, reason):
    settings = GuardSettings(mode=mode, distance_to_training_max=bound)
    verdict = judge(RAW, GOOD, settings, distance=distance)
    assert verdict.word == word
    assert re.search(reason, ' '.join(verdict.reasons))
    assert bool(verdict.reasons) == bool(reason)
    assert verdict.numbers['distance_to_training'] == distance


@pytest.mark.parametrize(
    ('mode', 'bound', 'rise', 'word', 'reason'),
    [
        ('reject', None, None, 'accepted', ''),
        ('reject', None, 5.0, 'accepted', ''),
        ('reject', 0.1, 0.1, 'accepted', ''),
        ('reject', 0.1, -2.0, 'accepted', ''),
        ('reject', 0.1, 0.11, 'rejected', r'lies \+0\.110 eV/atom above the raw .* \(bound 0\.1 eV/atom\)'),
        ('warn', 0.1, 0.11, 'accepted with warnings', 'above the raw'),
        ('off', 0.1, 0.11, 'unchecked', ''),
        ('reject', 0.1, None, 'rejected', 'no potential tells .* predict with `potential`'),
    ],
)
def test_the_energy_of_a_potential_is_looked_at_where_there_is_a_bound(mode, bound, rise, word, reason):
    verdict = judge(RAW, GOOD, GuardSettings(mode=mode, energy_rise_max_eV_per_atom=bound), energy_rise=rise)
    assert verdict.word == word
    assert re.search(reason, ' '.join(verdict.reasons))
    assert bool(verdict.reasons) == bool(reason)
    assert verdict.numbers['energy_rise_eV_per_atom'] == rise


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ({'volume_ratio_mx': 2}, 'did you mean `volume_ratio_max`'),
        ({'mode': 'strict'}, 'expected reject, warn, off'),
        ({'strain_min': 0.2}, 'expected a number from -1 to 0'),
        ({'contact_ratio_min': 'no'}, "found 'no'"),
        ({'displacement_max_A': float('nan')}, 'found nan'),
        ({'displacement_max_A': None}, 'found None'),
        ({'uncertainty_max_A': -1}, 'expected a number from 0 to 1000'),
    ],
)
def test_settings_are_refused_with_what_was_expected(values, message):
    with pytest.raises(ValueError, match=message):
        GuardSettings.from_mapping(values)


@pytest.mark.usefixtures('aiida_profile')
def test_verdict_and_accepted_structure_are_nodes_that_come_from_the_guard():
    raw = orm.StructureData(ase=copper_gold())
    predicted = orm.StructureData(ase=strained(rattled_copper_gold(), np.diag([0.1, 0.0, 0.0])))
    outcome = guard_prediction(raw, predicted, orm.Str(Moves.POSITIONS.value), orm.Dict({'volume_ratio_max': 2}))
    assert outcome['verdict']['verdict'] == 'accepted'
    assert outcome['verdict']['settings']['volume_ratio_max'] == 2
    assert outcome['verdict']['settings']['contact_ratio_min'] == 0.6
    assert outcome['verdict']['numbers']['volume_ratio'] == 1.0
    assert outcome['structure'].cell == raw.cell
    assert outcome['structure'].creator.inputs.prediction == predicted


@pytest.mark.usefixtures('aiida_profile')
def test_a_rejected_prediction_gives_no_structure():
    raw = orm.StructureData(ase=copper_gold())
    outcome = guard_prediction(raw, raw, orm.Str('cell'), orm.Dict({'contact_ratio_min': 1.0}))
    assert outcome['verdict']['verdict'] == 'rejected'
    assert 'structure' not in outcome


@pytest.mark.usefixtures('aiida_profile')
def test_uncertainty_comes_from_the_report_of_the_network():
    raw = orm.StructureData(ase=copper_gold())
    stated = {'uncertainty_A': 0.2, 'distance_to_training': 0.8}
    report = orm.Dict({'structures': [{'label': 'crystal', 'status': 'ok', **stated}]})
    outcome = guard_prediction(raw, raw, orm.Str('cell'), orm.Dict({'uncertainty_max_A': 0.1}), report)
    assert outcome['verdict']['numbers'].items() >= stated.items()
    assert outcome['verdict']['verdict'] == 'rejected'
    assert outcome['verdict'].creator.inputs.network_report == report


@pytest.mark.usefixtures('aiida_profile')
@pytest.mark.parametrize('key', ['potential', 'second_opinion'])
@pytest.mark.parametrize(
    ('opinion', 'rise'),
    [
        ({'energy_input_eV_per_atom': -3.0, 'energy_prediction_eV_per_atom': -2.75}, 0.25),
        ({'error': 'ValueError: an isolated atom'}, None),
        ({'energy_input_eV_per_atom': None, 'energy_prediction_eV_per_atom': -2.75, 'input_error': 'no'}, None),
    ],
)
def test_the_energy_of_a_potential_comes_from_the_report(opinion, rise, key):
    raw = orm.StructureData(ase=copper_gold())
    report = orm.Dict({'structures': [{'label': 'crystal', 'status': 'ok', key: opinion}]})
    outcome = guard_prediction(raw, raw, orm.Str('cell'), orm.Dict({'energy_rise_max_eV_per_atom': 0.1}), report)
    assert outcome['verdict']['numbers']['energy_rise_eV_per_atom'] == rise
    assert outcome['verdict']['verdict'] == 'rejected'


numbers = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.floats(-20, 20),
    st.sampled_from([0.0, 5e-324, 1e-300, 1e18, -1e18, 1.7e308, 3.7493]),
)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(numbers, min_size=9, max_size=9), st.lists(numbers, min_size=12, max_size=12), st.sampled_from(GuardMode)
)
@pytest.mark.filterwarnings('error')
def test_what_passes_in_any_mode_can_be_computed_with(cell, positions, mode):
    prediction = RAW.replace(np.reshape(positions, (4, 3)), np.reshape(cell, (1, 3, 3)))
    verdict = judge(RAW, prediction, GuardSettings(mode=mode.value))
    assert all(np.isfinite(n) for n in verdict.numbers.values() if isinstance(n, float))
    assert verdict.accepted or verdict.reasons
    if verdict.accepted:
        assert np.abs(prediction.positions).max() <= 1e4
        assert prediction.volumes[0] >= 4.0


@pytest.mark.parametrize('mode', list(GuardMode))
@pytest.mark.parametrize(
    ('prediction', 'reason'),
    [
        (GOOD.replace(GOOD.positions + 1e18, GOOD.cell), r'a position has a coordinate of 1e\+18 A'),
        (GOOD.replace(GOOD.positions, GOOD.cell * 1e300), r'a lattice vector has a coordinate of'),
        (GOOD.replace(GOOD.positions, np.diag([1e-4, 400.0, 1000.0])[None]), 'periodic image are 0.0001 A apart'),
        (GOOD.replace(GOOD.positions, np.array([[[4, 0, 0], [4e6, 4, 0], [0, 0, 4.0]]])), '4e[+]06 A'),
        (GOOD.replace(GOOD.positions, np.full((1, 3, 3), 5e-324)), 'volume of 0 A'),
    ],
)
@pytest.mark.filterwarnings('error')
@pytest.mark.timeout(60)
def test_no_mode_lets_pass_numbers_out_of_range(prediction, reason, mode):
    verdict = judge(RAW, prediction, GuardSettings(mode=mode.value))
    assert not verdict.accepted
    assert re.search(reason, ' '.join(verdict.reasons))


def test_the_verdict_does_not_depend_on_how_the_cell_is_chosen():
    choice = np.array([[1, 0, 0], [90, 1, 0], [0, -40, 1]])
    again = [crystal.replace(crystal.positions, choice @ crystal.cell) for crystal in (RAW, GOOD)]
    given_, changed = judge(RAW, GOOD, GuardSettings()).numbers, judge(*again, GuardSettings()).numbers
    assert {key: changed[key] for key in given_ if key != 'contact_atoms'} == pytest.approx(
        {key: value for key, value in given_.items() if key != 'contact_atoms'}, abs=1e-6
    )


@pytest.mark.parametrize(
    ('guard', 'parameters', 'fault'),
    [
        ({'uncertainty_max_A': 0.3}, {'potential': 'chgnet', 'start': 'input'}, '`uncertainty_max_A` would reject'),
        ({'distance_to_training_max': 1}, {'potential': 'dls-volume', 'start': 'input'}, 'by dls-volume, since only a'),
        ({'uncertainty_max_A': 0.3}, {'potential': 'chgnet', 'start': 'network'}, None),
        ({'uncertainty_max_A': 0.3}, {}, None),
        ({'energy_rise_max_eV_per_atom': 0.0}, {}, 'every prediction by network, since only a potential states'),
        ({'energy_rise_max_eV_per_atom': 0.0}, {'potential': 'dls-volume', 'start': 'network'}, 'only a potential'),
        ({'energy_rise_max_eV_per_atom': 0.0}, {'potential': 'chgnet', 'start': 'input'}, None),
        ({'energy_rise_max_eV_per_atom': 0.0}, {'second_opinion': 'chgnet'}, None),
        ({'energy_rise_max_eV_per_atom': 0.0, 'mode': 'warn'}, {}, None),
        ({'energy_rise_max_eV_per_atom': None, 'displacement_max_A': 1.0}, {}, None),
    ],
)
def test_a_bound_on_what_nothing_states(guard, parameters, fault):
    found = find_unstated_bound(guard, PredictParameters.from_mapping(parameters))
    assert (found is None) if fault is None else (fault in found)
