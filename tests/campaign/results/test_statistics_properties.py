"""What statistics of campaigns must hold whatever the numbers are."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_e3relax.campaign.results.estimates import median_of, percent_of, percent_saved, rank_correlation, signed_rank
from aiida_e3relax.campaign.results.outcomes import OUTCOMES, find_outcomes, pair_costs
from aiida_e3relax.campaign.results.statistics import summarise
from aiida_e3relax.campaign.results.table import make_frame

STEPS = st.integers(0, 40).map(float)
PAIRS = st.lists(st.tuples(STEPS, STEPS), max_size=12)
VALUES = st.lists(st.floats(-1e6, 1e6), max_size=30).map(np.array)
FEW = settings(max_examples=10, deadline=None)
MANY = settings(max_examples=50, deadline=None)


def make_leg(steps: float | None, finished: bool) -> dict:
    costs = dict.fromkeys(('ionic_steps', 'electronic_steps', 'wall_time_s', 'core_time_s'), steps)
    return {'finished': finished, 'code_version': '6.4.3', **costs}


@st.composite
def make_rows(draw) -> list[dict]:
    """Rows of a campaign, with all that can be missing missing somewhere."""
    rows = []
    for number in range(draw(st.integers(0, 8))):
        row = {
            'label': f'c{number}',
            'state': draw(st.sampled_from(['waiting', 'running', 'finished', 'failed', 'excepted', 'killed'])),
            'elements': draw(st.sampled_from([['Cu'], ['Na', 'Cl'], ['Mg', 'O']])),
            'n_atoms': draw(st.integers(1, 9)),
            'in_sample': draw(st.booleans()),
            'verdict': draw(st.sampled_from([None, 'accepted', 'rejected'])),
            'network_wall_time_s': draw(st.sampled_from([None, 0.5])),
            'uncertainty_A': draw(st.sampled_from([None, 0.1, 0.2])),
            'same_minimum': draw(st.sampled_from([None, True, False])),
            'energy_difference_final_meV_per_atom': draw(st.sampled_from([None, -1.0, 0.0, 2.0])),
        }
        for leg in ('raw', 'predicted'):
            if draw(st.booleans()):
                facts = make_leg(draw(st.none() | STEPS), draw(st.booleans()))
                row |= {f'{leg}_{key}': value for key, value in facts.items()}
        rows.append(row)
    return rows


@FEW
@given(make_rows(), st.randoms(use_true_random=False))
def test_every_structure_has_one_outcome_and_their_order_says_nothing(rows, random):
    summary = summarise(make_frame(rows))
    assert summary.structures == sum(summary.outcomes.values()) == len(rows)
    json.dumps(summary.to_dict(), allow_nan=False)
    shuffled = random.sample(rows, len(rows))
    again = summarise(make_frame(shuffled))
    assert again.outcomes == summary.outcomes
    for cost, saving in summary.savings.items():
        other = again.savings[cost]
        assert (other.unknown, other.less, other.same, other.more) == (
            saving.unknown,
            saving.less,
            saving.same,
            saving.more,
        )
        assert other.saved == pytest.approx(saving.saved, abs=1e-6)
        assert other.percent.value == pytest.approx(saving.percent.value)


def test_a_compared_pair_of_which_no_energy_is_known_says_nothing_of_energies():
    facts = {'state': 'finished', 'elements': ['Cu'], 'n_atoms': 1, 'in_sample': True, 'verdict': 'accepted'}
    for leg in ('raw', 'predicted'):
        facts |= {f'{leg}_{key}': value for key, value in make_leg(3.0, True).items()}
    rows = [
        facts | {'label': label, 'energy_difference_final_meV_per_atom': difference}
        for label, difference in (('a', None), ('b', 2.0))
    ]
    summary = summarise(make_frame(rows))
    assert (summary.energy_difference.n, summary.energy_difference.value) == (1, 2.0)
    assert summarise(make_frame(rows[:1])).energy_difference.value is None


@FEW
@given(make_rows())
def test_costs_are_those_of_structures_that_count(rows):
    frame = make_frame(rows)
    outcomes = find_outcomes(frame)
    assert set(outcomes) <= set(OUTCOMES)
    costs = pair_costs(frame)
    assert costs.index.isin(frame.index[frame['in_sample'].astype(bool)]).all()
    known = costs['ionic_steps'].dropna()
    rejected = known.index[outcomes[known.index].isin(['rejected', 'no prediction'])]
    pd.testing.assert_series_equal(known.loc[rejected, 'with'], known.loc[rejected, 'without'], check_names=False)


@FEW
@given(PAIRS, st.floats(0.01, 100))
def test_a_share_saved_is_a_ratio(pairs, scale):
    without, with_network = np.array(pairs, dtype=float).reshape(-1, 2).T
    found = percent_saved(without, with_network)
    assert found.n == len(pairs)
    if not without.sum():
        assert found.value is None
        return
    assert found.value == pytest.approx(100 * (1 - with_network.sum() / without.sum()))
    assert percent_saved(scale * without, scale * with_network).value == pytest.approx(found.value, abs=1e-9)
    if found.low is not None:
        assert found.low <= found.high
        assert len(pairs) >= 5


@MANY
@given(VALUES, st.floats(-1e3, 1e3))
def test_a_median_lies_in_its_interval_and_moves_with_the_values(values, shift):
    found = median_of(values)
    if not len(values):
        assert found.value is None
        return
    assert found.value == np.median(values)
    if found.low is not None:
        assert found.low <= found.value <= found.high
    assert median_of(values + shift).value == pytest.approx(found.value + shift, abs=1e-6)


@MANY
@given(st.integers(0, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_share_lies_in_its_interval(counts):
    count, n = counts
    found = percent_of(count, n)
    assert (found.value is None) == (n == 0)
    if n:
        assert -1e-9 <= found.low <= found.value + 1e-9
        assert found.value - 1e-9 <= found.high <= 100 + 1e-9


@MANY
@given(VALUES)
def test_tests_do_not_know_which_way_is_up(values):
    p_value = signed_rank(values)
    assert p_value is None or 0 <= p_value <= 1
    assert signed_rank(-values) == pytest.approx(p_value)


@MANY
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 1.0, 2.0, np.nan, np.inf]), st.integers(-5, 5).map(float)), max_size=20)
)
def test_ranks_are_correlated_over_known_values_alone(pairs):
    first, second = np.array(pairs, dtype=float).reshape(-1, 2).T
    found = rank_correlation('a', first, 'b', second)
    if found is None:
        return
    assert found.n == np.isfinite(first).sum()
    assert -1 - 1e-9 <= found.rho <= 1 + 1e-9
    grown = rank_correlation('a', np.exp(first), 'b', 3 * second + 1)
    assert grown is not None
    assert grown.rho == pytest.approx(found.rho)
