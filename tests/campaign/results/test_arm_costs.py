"""What arms cost where something failed, and where they have raw legs of their own."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from aiida_e3relax.campaign.results.arm_tables import describe_arms, tabulate_arms, tabulate_crystals
from aiida_e3relax.campaign.results.arms import RAW, column, compare_arms
from aiida_e3relax.campaign.results.estimates import percent_saved
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
def test_a_chain_that_left_no_figures_costs_the_raw_relaxation_at_least(state):
    network, potential = with_steps(7, 4, 5, 6, 9, 5), with_steps(5, 4, 4, 5, 6, 3)
    drop_chain(network, 'b', state)
    comparison = compare_arms({'network': network, 'chgnet': potential})
    assert comparison.n == 6
    assert comparison.by_crystal.loc['b', column('network', 'ionic_steps')] == 8
    told = ' '.join(describe_arms(comparison))
    assert 'network: the chains of b were stopped and left no figures' in told
    assert 'No arm takes more than' not in told
    alone = compare_arms({'network': network})
    assert alone.n == 5
    assert alone.arms[0].stopped == ('b',)


def test_a_running_chain_is_in_no_figure():
    network, potential = with_steps(7, 4, 5, 6, 9, 5), with_steps(5, 4, 4, 5, 6, 3)
    drop_chain(network, 'b', 'running')
    comparison = compare_arms({'network': network, 'chgnet': potential})
    assert comparison.n == 5
    assert 'No arm takes more than' in ' '.join(describe_arms(comparison))


def test_arms_are_compared_where_vasp_failed_from_the_raw_crystal():
    base, other = with_steps(7, 4, 5, 6, 9, 5), with_steps(5, 4, 4, 5, 6, 3)
    for label in 'bc':
        fail(base, label, 'raw', 30)
        other.loc[label, [name for name in other if name.startswith('raw_')]] = None
        other.loc[label, ['raw_leg_failed', 'in_sample']] = [True, False]
    fail(other, 'c', 'raw', 30)  # its chain relaxed the raw crystal again, as its prediction was of no use
    fail(other, 'c', 'predicted', 12)
    comparison = compare_arms({'base': base, 'other': other})
    assert (comparison.n, comparison.raw_failed, comparison.arms_alone) == (4, ('b', 'c'), ('b',))
    pairs = {(pair.fewer, pair.more): pair for pair in comparison.pairs['ionic_steps']}
    pair = pairs['other', 'base']
    expected = percent_saved(np.array([7.0, 4, 6, 9, 5]), np.array([5.0, 4, 5, 6, 3]))
    assert (pair.n_fewer, pair.n_same, pair.n_more) == (4, 1, 0)
    assert pair.percent.value == pytest.approx(expected.value)
    raw = pairs['base', RAW]
    assert raw.n_fewer + raw.n_same + raw.n_more == 4
    told = ' '.join(describe_arms(comparison))
    assert 'On 2 crystals VASP failed from the raw crystal (b, c); of them it finished' in told
    assert 'from base on 2' in told
    assert 'from other on 1' in told
    assert 'on 1 crystal more, on which VASP failed from the raw crystal' in tabulate_arms(comparison)[2].reading
    rows = {row[0]: row for row in tabulate_crystals(comparison).rows}
    assert rows['b'][3:] == ('–', '4', '4', 'raw: VASP failed')
    assert rows['c'][-1] == 'raw: VASP failed; other: not relaxed, VASP failed'


def test_all_arms_are_held_against_one_raw_leg():
    one = make_arm({'a': (10, 5), 'b': (10, None), 'c': (9, 4)})
    other = make_arm({'a': (20, 5), 'b': (20, 6), 'c': (9, 4)})
    comparison = compare_arms({'other': other, 'one': one})
    for arm in comparison.arms:
        assert arm.savings['ionic_steps'].without == comparison.raw_steps == 29
        assert arm.savings['core_time_s'].without == 2900
    pairs = {(pair.fewer, pair.more): pair for pair in comparison.pairs['ionic_steps']}
    for arm in comparison.arms:
        assert pairs[arm.name, RAW].percent == arm.savings['ionic_steps'].percent
    turned = compare_arms({'one': with_raw_of(one, other), 'other': other})
    assert turned.raw_steps == 49
    assert turned.by_crystal.loc['b', column('one', 'ionic_steps')] == 20  # rejected: nothing saved


def with_raw_of(frame: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Return a table with the raw legs of another one."""
    raw = [name for name in frame if name.startswith('raw_')]
    return frame.assign(**{name: other[name] for name in raw})
