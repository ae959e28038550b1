"""What arms cost where something failed, and where they have raw legs of their own."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from aiida_e3relax.campaign.results.arm_tables import describe_arms, tabulate_arms, tabulate_crystals
from aiida_e3relax.campaign.results.arms import RAW, column, compare_arms
from aiida_e3relax.campaign.results.outcomes import find_outcomes
from aiida_e3relax.campaign.results.table import LEG_FACTS, LEG_NUMBERS
from tests.campaign.results.test_arms import make_arm, with_steps


def fail(frame: pd.DataFrame, label: str, leg: str, steps: float | None) -> None:
    """Let a leg of a table fail, after so many ionic steps, None where that is not known."""
    frame.loc[label, [f'{leg}_{key}' for key in (*LEG_FACTS, *LEG_NUMBERS)]] = None
    frame.loc[label, [f'{leg}_finished', f'{leg}_ionic_steps']] = [False, steps]
    frame.loc[label, ['same_minimum', 'energy_difference_final_meV_per_atom']] = None


def drop_chain(frame: pd.DataFrame, label: str, state: str) -> None:
    """Leave of a row what a chain has that left no comparison."""
    kept = ['formula', 'elements', 'n_atoms', 'in_sample']
    frame.loc[label, [name for name in frame if name not in kept]] = None
    frame.loc[label, 'state'] = state


@pytest.mark.parametrize(('steps', 'counted'), [(7.0, 15.0), (None, 8.0)])
def test_a_failed_start_counts_with_what_is_known_of_it(steps, counted):
    network, potential = with_steps(7, 4, 5, 6, 9, 5), with_steps(5, 4, 4, 5, 6, 3)
    fail(network, 'b', 'predicted', steps)
    comparison = compare_arms({'network': network, 'chgnet': potential})
    assert comparison.n == 6
    assert comparison.by_crystal.loc['b', column('network', 'ionic_steps')] == counted
    arms = {arm.name: arm for arm in comparison.arms}
    assert arms['network'].savings['ionic_steps'].with_network == 7 + counted + 5 + 6 + 9 + 5
    assert arms['chgnet'].savings['ionic_steps'].with_network == 27
    assert (arms['network'].failed, arms['chgnet'].failed) == (('b',), ())
    assert len(comparison.known['core_time_s']) == 6
    told = ' '.join(describe_arms(comparison))
    assert 'From network VASP failed on b: ' in told
    assert 'of the failed one, the least that it spent' in told
    assert 'No arm takes more than' not in told


@pytest.mark.parametrize('state', ['excepted', 'killed', 'failed'])
def test_a_chain_that_left_no_figures_is_in_none(state):
    network, potential = with_steps(7, 4, 5, 6, 9, 5), with_steps(5, 4, 4, 5, 6, 3)
    drop_chain(network, 'b', state)
    comparison = compare_arms({'network': network, 'chgnet': potential})
    assert comparison.n == 5
    assert np.isnan(comparison.by_crystal.loc['b', column('network', 'ionic_steps')])
    arms = {arm.name: arm for arm in comparison.arms}
    steps = arms['network'].savings['ionic_steps']
    assert (steps.with_network, steps.without, steps.same) == (32, 42, 1)
    assert (arms['network'].stopped, arms['chgnet'].stopped) == (('b',), ())
    assert arms['network'].tied + arms['network'].best + arms['chgnet'].best == 5
    told = describe_arms(comparison)
    assert 'network: the chains of b left no figures, so that these crystals are in no sum.' in told


def test_a_start_fails_only_where_vasp_ran_from_it_and_in_the_sample():
    arm = with_steps(7, 4, 5, 6, 9, 5)
    fail(arm, 'a', 'raw', 30)
    arm.loc['a', ['verdict', 'predicted_finished']] = ['rejected', None]  # both failed, none of them from the arm
    for label in 'bc':
        fail(arm, label, 'predicted', 3)
    arm.loc['c', 'in_sample'] = False
    assert find_outcomes(arm)[['a', 'b', 'c']].tolist() == ['both failed', 'predicted failed', 'predicted failed']
    assert compare_arms({'network': arm}).arms[0].failed == ('b',)


def test_a_running_chain_is_in_no_figure():
    network, potential = with_steps(7, 4, 5, 6, 9, 5), with_steps(5, 4, 4, 5, 6, 3)
    drop_chain(network, 'b', 'running')
    comparison = compare_arms({'network': network, 'chgnet': potential})
    assert comparison.n == 5
    assert 'No arm takes more than' in ' '.join(describe_arms(comparison))


def test_crystals_on_which_vasp_failed_from_the_raw_one_are_in_no_sum_and_counted():
    base, other = with_steps(7, 4, 5, 6, 9, 5), with_steps(5, 4, 4, 5, 6, 3)
    for label in 'bc':
        fail(base, label, 'raw', 30)
        other.loc[label, [name for name in other if name.startswith('raw_')]] = None
        other.loc[label, 'in_sample'] = False
    fail(other, 'c', 'raw', 30)  # its chain relaxed the raw crystal again, as its prediction was of no use
    fail(other, 'c', 'predicted', 12)
    comparison = compare_arms({'base': base, 'other': other})
    assert (comparison.n, comparison.raw_failed) == (4, ('b', 'c'))
    assert compare_arms({'other': other}).raw_failed == ('c',)
    assert compare_arms({'other': other}, bases=[base]).raw_failed == ('b', 'c')
    sums = {arm.name: arm.savings['ionic_steps'] for arm in comparison.arms}
    for pair in comparison.pairs['ionic_steps']:
        assert pair.n_fewer + pair.n_same + pair.n_more == pair.percent.n == 4
        if RAW not in (pair.fewer, pair.more):
            saved = 100 * (1 - sums[pair.fewer].with_network / sums[pair.more].with_network)
            assert pair.percent.value == pytest.approx(saved)
    told = describe_arms(comparison)
    assert (
        'On 2 crystals VASP failed from the raw crystal (b, c); it finished from other on 1 of 2, from base on 2 of 2.'
    ) in told
    rows = {row[0]: row for row in tabulate_crystals(comparison).rows}
    assert rows['b'][3:] == ('–', '4', '4', 'raw: VASP failed')
    assert rows['c'][-1] == 'raw: VASP failed; other: not relaxed, VASP failed'


def test_ends_are_compared_where_vasp_failed_from_the_raw_crystal():
    base, other = with_steps(7, 4, 5, 6, 9, 5), with_steps(5, 4, 4, 5, 6, 3)
    fail(base, 'b', 'raw', 30)
    other.loc['b', [name for name in other if name.startswith('raw_')]] = None
    other.loc['b', ['in_sample', 'predicted_energy_final_eV_per_atom']] = [False, -4.96]
    minima = compare_arms({'base': base, 'other': other}).minima
    assert minima.index.tolist() == ['b']
    assert minima.loc['b', ['base', 'other']].tolist() == pytest.approx([0, 39.9])
    assert np.isnan(minima.loc['b', RAW])


def test_each_arm_is_held_against_its_own_raw_legs():
    one = make_arm({'a': (10, 5), 'b': (10, None), 'c': (9, 4)})
    other = make_arm({'a': (20, 5), 'b': (20, 6), 'c': (9, 4)})
    comparison = compare_arms({'other': other, 'one': one})
    arms = {arm.name: arm for arm in comparison.arms}
    assert {name: arm.savings['ionic_steps'].without for name, arm in arms.items()} == {'one': 29, 'other': 49}
    assert arms['other'].savings['core_time_s'].without == 4900
    pairs = {(pair.fewer, pair.more): pair for pair in comparison.pairs['ionic_steps']}
    for name, arm in arms.items():
        assert pairs[name, RAW].percent == arm.savings['ionic_steps'].percent
    assert comparison.by_crystal.loc['b', column('one', 'ionic_steps')] == 10  # rejected: nothing saved
    assert (comparison.raw_of, comparison.raw_steps) == ('one', 29)
    costs, ends, of_pairs, *_ = tabulate_arms(comparison)
    assert costs.rows[0][:5] == ('raw crystals of one', '', '', '', '29')
    assert ends.rows[0][0] == 'raw crystals of one'
    assert 'Against raw each arm has its own relaxations from the raw crystals.' in of_pairs.reading


@pytest.mark.parametrize(
    ('column_', 'by', 'is_told'),
    [
        ('raw_ionic_steps', 1, True),
        ('raw_core_time_s', 1, True),
        ('raw_energy_final_eV_per_atom', 2e-4, True),
        ('raw_energy_final_eV_per_atom', 5e-5, False),  # noise
        ('raw_electronic_steps', 0, False),
    ],
)
def test_raw_legs_are_taken_for_one_where_nothing_tells_them_apart(column_, by, is_told):
    one, other = with_steps(7, 4, 5, 6, 9, 5), with_steps(5, 4, 4, 5, 6, 3)
    other.loc['c', column_] += by
    comparison = compare_arms({'one': one, 'other': other})
    assert comparison.raw_of == ('one' if is_told else '')
    assert (tabulate_arms(comparison)[0].rows[0][0] == 'raw crystals') is not is_told
