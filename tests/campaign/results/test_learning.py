"""The learning curve and the forecast, on tables whose truth is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from aiida_e3relax.campaign.report.learning_plot import has_curve, learning_figure, plot_learning
from aiida_e3relax.campaign.results.forecast import JudgedGeneration, fit_shares, forecast_rest
from aiida_e3relax.campaign.results.learning import LearningResult, RoundResult, summarise_learning
from aiida_e3relax.campaign.results.learning_tables import describe_learning, tabulate_learning
from aiida_e3relax.campaign.results.table import make_frame

MODELS = [('uuid-0', 'sha256:0'), ('uuid-1', 'sha256:1'), ('uuid-2', 'sha256:2')]
EVALUATION = {
    'crystals': 9,
    'errors': {
        name: {'coordinates_A': {'mean': error}, 'lattice_A': {'mean': 2 * error}}
        for name, error in (('base', 0.1), ('tuned', 0.04))
    },
    'difference': {'mean_A': -0.18, 'interval_A': [-0.25, -0.1]},
    'is_better': True,
}
ROUNDS = [
    RoundResult(1, 11, 20, 14, 'finished', '', 1, EVALUATION),
    RoundResult(2, 12, 40, None, 'failed', 'The training ended with exit code 321', None),
    RoundResult(3, 13, 50, 30, 'finished', '', 2, EVALUATION, {'not converged': 2, 'leaks: in test, too': 1}, 17),
]
LEFT = {0: 0.9, 1: 0.6, 2: 0.5}
"""The share of the steps that each generation leaves of judges; of others it leaves half as much."""


def make_row(number: int, generation: int, judge: bool, state: str = 'finished') -> dict:
    """Return a row of a structure; only those that judge have a raw leg."""
    label = f's{number:03}'
    known = {'label': label, 'state': state, 'elements': ['Cu'], 'judge': judge, 'in_sample': judge}
    known['raw_leg_planned'] = judge
    if state != 'finished':
        return known
    raw = 10 * (1 + number % 4)
    predicted = raw * LEFT[generation] / (1 if judge else 2)
    known |= {'generation': generation, 'uncertainty_A': 0.1 / (1 + generation), 'predicted_finished': True}
    known |= {'predicted_ionic_steps': predicted, 'predicted_start_energy_error_meV_per_atom': 30.0 - 10 * generation}
    known |= {'predicted_start_coordinate_mae_A': 0.2 / (1 + generation), 'predicted_code_version': '6.4'}
    return known | ({'raw_ionic_steps': raw, 'raw_finished': True, 'raw_code_version': '6.4'} if judge else {})


@pytest.fixture(scope='module')
def frame() -> pd.DataFrame:
    """Sixty relaxations by three generations, every fourth of which judges, and twelve structures that are left."""
    rows = [make_row(n, n // 20, n // 4 % 3 == 0) for n in range(60)]
    rows += [make_row(60 + n, 0, n % 3 == 0, 'waiting' if n else 'running') for n in range(12)]
    return make_frame(rows)


@pytest.fixture(scope='module')
def result(frame) -> LearningResult:
    """What learning brought in it."""
    return summarise_learning(frame, MODELS, ROUNDS, 'random', 20)


def test_generations_are_judged_by_judges_alone(frame, result):
    for generation in result.generations:
        assert generation.saved.value == pytest.approx(100 * (1 - LEFT[generation.number]))
        assert generation.saved.n == ((frame['generation'] == generation.number) & frame['judge'].map(bool)).sum()
        assert generation.uncertainty.value == pytest.approx(0.1 / (1 + generation.number))
        assert generation.start_error.value == 30 - 10 * generation.number
        assert len(generation.served) == 20
    assert [generation.learnt for generation in result.generations] == [0, 14, 30]
    shuffled = frame.sample(frac=1, random_state=1)
    again = summarise_learning(shuffled, MODELS, ROUNDS, 'random', 20)
    assert [g.saved for g in again.generations] == [g.saved for g in result.generations]


def test_the_rest_is_forecast_from_the_judges(frame, result):
    forecast = result.forecast
    assert (forecast.running, forecast.waiting, forecast.raw_legs) == (1, 11, 4)
    judges = frame[frame['raw_finished'].notna()]
    raw = judges['raw_ionic_steps'].mean()
    weights = np.array([float(generation.saved.n) for generation in result.generations])
    share, later = fit_shares((0, 14, 30), np.array([0.9, 0.6, 0.5]), weights, np.array([30.0, forecast.learnt]))
    assert forecast.now.value == pytest.approx(raw * (4 + 12 * share))
    assert forecast.another.value == pytest.approx(raw * (4 + share + 11 * later))
    assert forecast.now.low < forecast.now.value < forecast.now.high
    assert forecast.another.value < forecast.now.value


def test_a_power_law_is_found_and_extrapolated_and_never_rises():
    counts, weights = (0, 10, 30), np.array([6.0, 3.0, 9.0])
    shares = np.array([0.8 * (1 + n / 10) ** -0.5 for n in (0, 10, 30, 90)])
    asked = np.array([0.0, 30.0, 90.0])
    assert fit_shares(counts, shares[:3], weights, asked) == pytest.approx(shares[[0, 2, 3]])
    several = fit_shares(counts, np.stack([shares[:3], shares[:3] ** 2]), weights, asked)
    assert several == pytest.approx(np.stack([shares[[0, 2, 3]], shares[[0, 2, 3]] ** 2]))
    worse = [JudgedGeneration(10 * n, np.full(6, 10.0), np.full(6, 5.0 + n)) for n in range(2)]
    forecast = forecast_rest(worse, 0, 5, 0, could_learn=30)
    assert forecast.is_mean
    assert forecast.now.value == forecast.another.value == pytest.approx(50 * np.sqrt(0.5 * 0.6))
    better = [dataclasses.replace(each, learnt=10 - each.learnt) for each in worse][::-1]
    assert not forecast_rest(better, 0, 5, 0, could_learn=30).is_mean
    rising = fit_shares((0, 2), np.array([0.5, 0.7]), np.ones(2), np.array([2.0, 50.0]))
    assert rising == pytest.approx(2 * [np.sqrt(0.5 * 0.7)])
    assert fit_shares((0,), shares[:1], np.ones(1), asked) == pytest.approx(3 * [shares[0]])


def relax(rng: np.random.Generator, n: int, share: float, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps of crystals without and with predictions, of which they leave this share on average."""
    if kind == 'alike':
        without = rng.poisson(20, n).astype(float)
        return without, rng.binomial(without.astype(int), share).astype(float)
    without = rng.lognormal(2.7, 0.6, n)
    return without, without * rng.lognormal(np.log(share) - 0.4**2 / 2, 0.4, n)


@pytest.mark.parametrize('sizes', [(6, 2, 1), (12, 2, 1), (8, 3, 2), (5, 1), (6,), (12, 12), (20, 20, 20)])
@pytest.mark.parametrize('kind', ['alike', 'unlike'])
def test_intervals_of_forecasts_hold_the_truth_about_as_often_as_they_say(kind, sizes):
    """Also where a generation has one judge, which has no scatter of its own.

    Measured with four seeds: 0.88 to 0.97, but where the newest generations have one to three judges 0.80 to 0.93, the
    least of crystals that are alike (12, 2, 1). There they scatter more than the first one, which so few cannot tell.
    Drawn within generations, judges held it in 0.54 to 0.82 of the cases with two judges or fewer in a generation.
    """
    rng, held, counts = np.random.default_rng(5), [], (0, 20, 60)
    shares = [0.8 * (1 + learnt / 20) ** -0.4 for learnt in counts]
    for _ in range(400):
        judged = [
            JudgedGeneration(learnt, *relax(rng, size, share, kind))
            for learnt, share, size in zip(counts, shares, sizes, strict=False)
        ]
        forecast = forecast_rest(judged, 0, 30, 0, could_learn=90)
        truth = relax(rng, 30, shares[len(sizes) - 1], kind)[1].sum()
        held.append(forecast.now.low <= truth <= forecast.now.high)
    assert (0.75 if sizes == (12, 2, 1) else 0.8) <= np.mean(held) <= 0.995


def test_a_crystal_that_is_slow_from_its_raw_form_is_slow_from_a_prediction_too():
    """What is left has both legs, whose steps go together."""
    rng, held = np.random.default_rng(7), 0
    for _ in range(60):
        raw = rng.lognormal(3.0, 0.6, size=(2, 100))
        judged = [JudgedGeneration(20 * n, raw[n], (0.8, 0.5)[n] * raw[n]) for n in range(2)]
        forecast = forecast_rest(judged, 0, 40, 40, could_learn=20)
        held += forecast.now.low <= 1.5 * rng.lognormal(3.0, 0.6, size=40).sum() <= forecast.now.high
    assert held >= 54


def test_generations_that_learnt_from_equally_many_stand_for_each_other_by_their_mean():
    judged = [JudgedGeneration(20, np.full(6, 10.0), np.full(6, left)) for left in (5.0, 4.0)]
    forecast = forecast_rest(judged, 0, 5, 0, could_learn=40)
    assert forecast.now.value == pytest.approx(50 * np.sqrt(0.5 * 0.4))
    assert forecast.now.low <= forecast.now.value <= forecast.now.high
    assert forecast.another is None
    assert 'equally many' in forecast.why


@pytest.mark.parametrize(
    ('n_generations', 'waiting', 'could_learn', 'why'),
    [(1, 5, 50, 'two generations'), (2, 0, 50, 'all structures have begun'), (2, 5, 10, 'no more has finished')],
)
def test_what_cannot_be_forecast_is_said(n_generations, waiting, could_learn, why):
    judged = [JudgedGeneration(10 * n, np.full(6, 10.0), np.full(6, 8.0 - 2 * n)) for n in range(n_generations)]
    forecast = forecast_rest(judged, 1, waiting, 0, could_learn)
    assert forecast.another is None
    assert why in forecast.why
    assert forecast.now.value == pytest.approx((1 + waiting) * 10 * (0.8, 0.6)[n_generations - 1])
    assert forecast_rest(judged, 0, 0, 0, could_learn) is None
    assert forecast_rest([JudgedGeneration(0, np.array([]), np.array([]))], 1, 1, 0, 9) is None


def test_sentences_tables_and_figures_tell_of_every_generation_and_round(frame, result):
    first, left_out, forecast = describe_learning(result)
    replaying = dataclasses.replace(ROUNDS[2], replayed=(4, 30))
    assert left_out == 'Round 3 left out 3 that had finished: 2 not converged; 1 leaks: in test, too.'
    assert 'Generation 0 of the model saved 10 % (10 to 10)' in first
    assert 'generation 2, which has learnt from 30 relaxations, 50 %' in first
    assert 'the 12 structures that are left, 4 of them from the raw crystal, too,' in forecast
    assert 'with another round now, on 36 relaxations,' in forecast  # 30 of 33 of 40 that do not judge
    rising = dataclasses.replace(result, forecast=dataclasses.replace(result.forecast, is_mean=True))
    assert 'the forecast takes the mean over all generations' in describe_learning(rising)[2]
    curve, rounds = tabulate_learning(result)
    assert [row[:4] for row in curve.rows] == [('0', '0', '20', '8'), ('1', '14', '20', '8'), ('2', '30', '20', '4')]
    assert [row[-1] for row in rounds.rows] == [
        'generation 1',
        'failed: The training ended with exit code 321',
        'generation 2',
    ]
    assert rounds.rows[2][2:6] == ('30', '–', '3', '9')
    told = describe_learning(dataclasses.replace(result, judges_learnt=3, rounds=(*ROUNDS[:2], replaying)))
    assert told[1].startswith(
        'The model that the campaign began with had learnt from 3 of the 24 structures that judge'
    )
    assert told[3].startswith('Round 3 replayed 4 of the 30 pairs asked for: ')
    again = dataclasses.replace(result, rounds=(replaying,))
    assert tabulate_learning(again)[1].rows[0][3] == '4 of 30'
    assert rounds.rows[0][6:9] == ('0.300', '0.120', '−0.180 (−0.250 to −0.100)')
    figure = plot_learning(result)
    assert [list(trace.x) for trace in figure.data] == 4 * [[0, 14, 30]]
    assert len(learning_figure(result).axes) == 3
    assert 'have their turn all along; the others are taken in random order.' in curve.reading
    nothing = summarise_learning(frame.iloc[-5:], MODELS[:1], [], 'given', None)
    assert not has_curve(nothing)
    assert describe_learning(nothing)[0].startswith('None of the structures that judge')
    assert tabulate_learning(nothing)[0].rows[0][4] == '–'


def test_what_is_stated_and_not_scaled_is_not_shown(frame, result):
    half = summarise_learning(frame, MODELS, ROUNDS, 'random', 20, uncalibrated=['uuid-1'])
    assert half.generations[1].uncertainty.value is None
    assert [half.generations[n] for n in (0, 2)] == [result.generations[n] for n in (0, 2)]
    assert [len(trace.x) for trace in plot_learning(half).data] == [3, 3, 3, 2]
    assert tabulate_learning(half)[0].rows[1][-1] == '–'


def test_generations_are_not_compared_where_judges_have_no_turns(frame, result):
    """As in a campaign that was made without --learn: its judges stand where they are in the given order."""
    by_hand = summarise_learning(frame, MODELS, ROUNDS, 'given', None, has_turns=False)
    assert by_hand.generations == result.generations
    newest = frame[(frame['generation'] == 2) & frame['judge'].map(bool)]
    assert by_hand.forecast.now.value == pytest.approx((4 + 12 * LEFT[2]) * newest['raw_ionic_steps'].mean())
    assert by_hand.forecast.another is None
    *each, _, forecast = describe_learning(by_hand)
    assert [sentence.split(' of the model')[0] for sentence in each] == [f'Generation {n}' for n in range(3)]
    for told in (forecast, tabulate_learning(by_hand)[0].reading):
        assert 'the campaign was made without --learn' in told
        assert 'all along' not in told
