"""How many ionic steps the rest of a campaign takes, with and without another round of learning."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import stats

from aiida_e3relax.campaign.results.estimates import FEWEST, SEED, Estimate, Values

RESAMPLES = 2000
BOUNDS = (2.5, 97.5)
"""Percentiles of a 95 % interval."""
LEAST_LEFT = 0.02
"""The share of the ionic steps that is left at least: a relaxation takes a step."""
METHOD = 'percentile'


@dataclasses.dataclass(frozen=True)
class JudgedGeneration:
    """The ionic steps of the judges that a generation of the model served, without and with its predictions.

    `learnt` is how many relaxations it had learnt from.
    """

    learnt: int
    without: Values
    with_prediction: Values


@dataclasses.dataclass(frozen=True)
class Forecast:
    """The ionic steps of VASP that the rest of a campaign takes.

    Attributes
    ----------
    running, waiting
        The structures whose chains run, and those that have not begun.
    raw_legs
        How many of them are relaxed from the raw crystal, too.
    now
        Steps with the newest model as it is.
    learnt
        How many relaxations another round, made now, would learn from.
    another
        Steps with another round made now, which serves what has not begun. None where that is not known.
    why
        Why `another` is not known; empty where it is.
    is_mean
        Whether the newest model has left no fewer steps than those before it, so that `now` goes by the mean of all.
    """

    running: int
    waiting: int
    raw_legs: int
    now: Estimate
    learnt: int
    another: Estimate | None
    why: str = ''
    is_mean: bool = False


def forecast_rest(
    judged: Sequence[JudgedGeneration], n_running: int, n_waiting: int, n_raw: int, could_learn: int
) -> Forecast | None:
    """Return what the rest takes, as if it were like the judges, which are a random sample of all structures.

    A raw relaxation takes the mean of all judges. From a prediction a share of that is left, which is fitted to the
    generations: it falls as ``(1 + n / n_1)^-b`` with the relaxations n that a model has learnt from, where n_1 is that
    of the first that has learnt; each generation weighs as many as judge it, and b is not negative, since a model that
    is no better is not taken. Where later generations left more, the mean share of all stands for the newest one, too,
    as it may be chance that parts them. Without two generations that were judged, and learnt from unlike numbers, it is
    the mean share, and another round is not forecast.

    Intervals hold the choice of judges, by a bootstrap of what is left of their steps beside the fit, and the scatter
    of the rest about its mean. They are narrow where the newest generations have one to three judges, who cannot tell
    that these scatter more than the first one: those of made-up campaigns then hold the truth 80 to 93 times in 100,
    and else 88 to 97 times, see `tests/campaign/results/test_learning.py`. What intervals do not hold: that the rest
    may be unlike the judges, as where the hardest were taken first, and that the curve may bend.

    Parameters
    ----------
    judged
        By generation.
    n_running, n_waiting, n_raw
        As in `Forecast`.
    could_learn
        How many relaxations another round could learn from.

    Returns
    -------
    Forecast
        None where nothing is left, or no judge has been relaxed.
    """
    known = [generation for generation in judged if len(generation.without) and generation.without.sum() > 0]
    if not (n_running or n_waiting) or not known:
        return None
    newest = judged[-1].learnt
    why = ''
    if len(known) < 2:
        why = 'two generations of the model must have been judged'
    elif len({generation.learnt for generation in known}) < 2:
        why = 'the generations that have been judged learnt from equally many relaxations'
    elif not n_waiting:
        why = 'all structures have begun'
    elif could_learn <= newest:
        why = 'no more has finished than the newest model has learnt from'
    counts = (n_running, n_waiting, n_raw)
    learnt = np.array([newest, max(could_learn, newest)], dtype=np.float64)
    values = _totals(known, [_sums(each.without, each.with_prediction) for each in known], learnt, counts)
    n_judges = sum(len(generation.without) for generation in known)
    if n_judges < FEWEST:
        estimates = [Estimate(float(value), None, None, n_judges, None) for value in values]
    else:
        low, high = np.percentile(_draw_totals(known, learnt, counts), BOUNDS, axis=0)
        estimates = [
            Estimate(float(value), float(low[n]), float(high[n]), n_judges, METHOD) for n, value in enumerate(values)
        ]
    is_mean = len(known) > 1 and not _has_fallen(known)
    another = None if why else estimates[1]
    return Forecast(n_running, n_waiting, n_raw, estimates[0], could_learn, another, why, is_mean)


def _has_fallen(known: Sequence[JudgedGeneration]) -> bool:
    """Return whether the fitted share of the steps that is left falls with what was learnt."""
    counts = [float(each.learnt) for each in known]
    sums = [_sums(each.without, each.with_prediction) for each in known]
    first, last = _fit(known, sums, np.array([min(counts), max(counts)]))
    return bool(last < first)


def _draw_totals(known: Sequence[JudgedGeneration], learnt: Values, counts: tuple[int, int, int]) -> Values:
    """Return totals ``(R, 2)`` with judges drawn again, and with the scatter of the rest.

    Each generation draws from the judges of all: what is left of a judge's steps is taken over the share that is fitted
    to its own generation, and the other one's share of it is left. A generation with one judge or two could not tell
    its scatter by these. Draws are parted from the forecast as far as Student's t is wider than what is drawn, since
    the judges are few, and the fit has bent towards them.
    """
    rng = np.random.default_rng(SEED)
    sizes = np.array([len(generation.without) for generation in known])
    sums = [_sums(generation.without, generation.with_prediction) for generation in known]
    shares = _fit(known, sums, np.array([float(generation.learnt) for generation in known]))
    without = np.concatenate([generation.without for generation in known])
    whole = np.concatenate([each.with_prediction / share for each, share in zip(known, shares, strict=True)])
    drawn = []
    for size, share in zip(sizes, shares, strict=True):
        places = rng.integers(sizes.sum(), size=(RESAMPLES, size))
        drawn.append(_sums(without[places], share * whole[places]))
    totals, middle = _totals(known, drawn, learnt, counts), _totals(known, sums, learnt, counts)
    freedom = sizes.sum() - min(2, len({generation.learnt for generation in known}))  # a mean, or a slope besides
    wider = stats.t.ppf(0.975, freedom) / stats.norm.ppf(0.975) * np.sqrt(sizes.sum() / freedom)
    totals = middle * (totals / middle) ** wider
    n_left, n_raw = counts[0] + counts[1], counts[2]
    left = _fit(known, sums, learnt[:1]) * whole
    (raw_variance, covariance), (_, left_variance) = np.cov(without, left)
    # a crystal that takes many steps takes many from both
    scatter = np.sqrt(max(n_raw * raw_variance + n_left * left_variance + 2 * n_raw * covariance, 0.0))
    return np.maximum(totals + scatter * rng.standard_normal((RESAMPLES, 1)), n_left)


def _sums(without: Values, with_prediction: Values) -> Values:
    """Return the sums ``(..., 2)`` of both steps over the last axis."""
    return np.stack([without.sum(axis=-1), with_prediction.sum(axis=-1)], axis=-1)


def _fit(known: Sequence[JudgedGeneration], sums: Sequence[Values], learnt: Values) -> Values:
    """Return the fitted share ``(..., L)`` that is left after so many relaxations learnt from, from `_sums`."""
    n_judges = np.array([float(len(generation.without)) for generation in known])
    shares = np.stack([each[..., 1] / np.maximum(each[..., 0], 1.0) for each in sums], axis=-1)
    return fit_shares([generation.learnt for generation in known], shares, n_judges, learnt)


def _totals(
    known: Sequence[JudgedGeneration], sums: Sequence[Values], learnt: Values, counts: tuple[int, int, int]
) -> Values:
    """Return the steps ``(..., 2)`` of the rest, with the newest model and with one that has learnt more."""
    running, waiting, n_raw = counts
    raw = np.sum([each[..., 0] for each in sums], axis=0) / sum(len(generation.without) for generation in known)
    now, later = np.moveaxis(_fit(known, sums, learnt), -1, 0)
    begun = n_raw + running * now
    return np.stack([raw * (begun + waiting * now), raw * (begun + waiting * later)], axis=-1)


def fit_shares(counts: Sequence[int], shares: Values, weights: Values, learnt: Values) -> Values:
    """Return the share of the ionic steps that is left after so many relaxations learnt from, see `forecast_rest`.

    Parameters
    ----------
    counts, weights
        Of G generations, how many relaxations each has learnt from, and how much it weighs.
    shares
        ``(..., G)`` what was left with each.
    learnt
        ``(L,)`` after how many relaxations it is asked for.

    Returns
    -------
    array
        ``(..., L)``.
    """
    logs = np.log(np.maximum(shares, LEAST_LEFT))
    mean = np.average(logs, axis=-1, weights=weights)[..., None]
    first = min((count for count in counts if count > 0), default=0)
    if len(set(counts)) < 2 or not first:
        return np.broadcast_to(np.exp(mean), (*mean.shape[:-1], len(learnt)))
    x, at = np.log1p(np.array(counts) / first), np.log1p(learnt / first)
    middle = np.average(x, weights=weights)
    slope = np.average((x - middle) * (logs - mean), axis=-1, weights=weights)[..., None]
    slope = slope / np.average((x - middle) ** 2, weights=weights)
    return np.maximum(np.exp(mean + np.minimum(slope, 0.0) * (at - middle)), LEAST_LEFT)
