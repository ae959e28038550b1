"""Estimates with confidence intervals and tests, computed with scipy."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import stats

if TYPE_CHECKING:
    import pandas as pd

CONFIDENCE = 0.95
SEED = 0
"""Intervals of the same data are the same each time."""
EXACT_WORK = 2 * 10**7
"""The most additions by which a p-value is counted out, which take a fraction of a second."""
MOST_PERMUTED = 9
"""The most structures of which all 9! orders are tried for a p-value, in a fifth of a second."""
FEWEST = 5
"""Of fewer structures no interval is given: so few say little about others."""

Values = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval.

    Attributes
    ----------
    value
        None where there are no data.
    low, high
        The interval; None where there is none.
    n
        The structures that it comes from.
    method
        Of the interval: `Fieller`, `order statistics`, `Wilson`, or None.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    method: str | None


@dataclasses.dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation of two columns over n structures, and its two-sided p-value."""

    of: str
    against: str
    n: int
    rho: float
    p_value: float


def column_values(table: pd.DataFrame, column: str) -> Values:
    """Return a column ``(n,)`` of a table, NaN where a value is missing."""
    return table[column].to_numpy(dtype=np.float64)


def percent_saved(without: Values, with_network: Values) -> Estimate:
    """Return the ratio of sums ``100 (1 - sum(with) / sum(without))`` over pairs ``(n,)``, with Fieller's interval.

    A ratio of sums gives each step the same weight, and not each structure. The interval is that of all ratios r from
    which the mean of ``with - r without`` differs from 0 by no more than chance, by Student's t: of six structures it
    holds the truth about as often as it says, where a bootstrap would claim to know more. There is none where the sum
    without the network itself may be 0 by chance, as where one structure of a few takes most of the steps.

    Source: E. C. Fieller, J. R. Stat. Soc. B 16, 175 (1954).
    """
    total = without.sum()
    n = len(without)
    if not total:
        return Estimate(None, None, None, n, None)
    left = with_network.sum() / total
    value = float(100 * (1 - left))
    if n < FEWEST:
        return Estimate(value, None, None, n, None)
    means = np.array([without.mean(), with_network.mean()])
    spread = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) ** 2 / n * np.cov(without, with_network)
    first, middle, last = means[0] ** 2 - spread[0, 0], means[0] * means[1] - spread[0, 1], means[1] ** 2 - spread[1, 1]
    if first <= 0:
        return Estimate(value, None, None, n, None)
    half = np.sqrt(max(middle**2 - first * last, 0.0))
    least, most = max((middle - half) / first, 0.0), (middle + half) / first
    return Estimate(value, float(100 * (1 - most)), float(100 * (1 - least)), n, 'Fieller')


def median_of(values: Values) -> Estimate:
    """Return the median of values ``(n,)``, with the interval between order statistics that needs no distribution."""
    n = len(values)
    if not n:
        return Estimate(None, None, None, 0, None)
    value = float(np.median(values))
    if n < FEWEST:
        return Estimate(value, None, None, n, None)
    interval = stats.quantile_test(values, q=value, p=0.5).confidence_interval(CONFIDENCE)
    if not np.isfinite([interval.low, interval.high]).all():
        return Estimate(value, None, None, n, None)
    return Estimate(value, float(interval.low), float(interval.high), n, 'order statistics')


def percent_of(count: int, n: int) -> Estimate:
    """Return a share in percent, with Wilson's interval of a binomial proportion."""
    if not n:
        return Estimate(None, None, None, 0, None)
    interval = stats.binomtest(count, n).proportion_ci(CONFIDENCE, method='wilson')
    return Estimate(100 * count / n, 100 * float(interval.low), 100 * float(interval.high), n, 'Wilson')


def signed_rank(differences: Values) -> float | None:
    """Return the two-sided p-value of Wilcoxon's signed-rank test; None of fewer than two values or of zeros alone.

    Zeros are ranked with the others and then left out (Pratt): a pair without a difference is evidence against an
    effect. The p-value is exact, given the ranks, ties among them: without an effect each of the 2^m ways to give the m
    others a sign is as likely. Where these would take more than `EXACT_WORK` additions to count, as for many hundreds
    of values, it is that of the normal approximation.
    """
    if len(differences) < 2 or not differences.any():
        return None
    doubled = np.rint(2 * stats.rankdata(np.abs(differences))).astype(int)  # those of ties are halves
    positive, negative = (doubled[differences > 0], doubled[differences < 0])
    least = min(int(positive.sum()), int(negative.sum()))
    ranks = [*positive.tolist(), *negative.tolist()]
    if len(ranks) * (least + 1) > EXACT_WORK:
        return float(stats.wilcoxon(differences, zero_method='pratt', method='asymptotic').pvalue)
    return min(1.0, 2 * _chance_of_sum(ranks, least))


def _chance_of_sum(ranks: Sequence[int], most: int) -> float:
    """Return how likely the sum of a random half of `ranks`, each taken or not by a coin, is `most` at most."""
    chances = np.zeros(most + 1)
    chances[0] = 1.0
    for rank in ranks:
        taken = chances[: max(0, most + 1 - rank)] / 2
        chances /= 2
        chances[rank:] += taken
    return float(chances.sum())


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p-values corrected for being several, by Holm's step-down method: the familywise error stays in bounds.

    One that is None, of a comparison in which nothing differs, counts among them and stays None.

    Source: S. Holm, Scand. J. Stat. 6, 65 (1979).
    """
    known = sorted((p_value, place) for place, p_value in enumerate(p_values) if p_value is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p_value, place) in enumerate(known):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_value))
        corrected[place] = largest
    return corrected


def rank_correlation(of: str, values: Values, against: str, others: Values) -> Correlation | None:
    """Return the correlation of two columns ``(n,)`` where both are known; None where ranks say nothing.

    The p-value is exact up to `MOST_PERMUTED` structures, ties among them: of all orders of one column, the share that
    agree or disagree as well. Of more it is that of Student's t, and at least the share of one order and its reverse.
    """
    known = np.isfinite(values) & np.isfinite(others)
    first, second = values[known], others[known]
    if len(first) < 3 or not np.ptp(first) or not np.ptp(second):
        return None
    found, n = stats.spearmanr(first, second), len(first)
    if n <= MOST_PERMUTED:
        p_value = _chance_of_order(stats.rankdata(first), stats.rankdata(second))
    else:
        p_value = max(float(found.pvalue), 2 / math.factorial(n))
    return Correlation(of, against, n, float(found.statistic), p_value)


def _chance_of_order(ranks: Values, others: Values) -> float:
    """Return how likely ranks ``(n,)`` in random order correlate with `others`, in either sense, as well as these."""
    ranks, others = ranks - ranks.mean(), others - others.mean()
    sums = np.abs(ranks[_permutations(len(ranks))] @ others)
    return float((sums > abs(ranks @ others) - 1e-6).mean())  # sums of halves of halves: none differ by less


@functools.cache
def _permutations(n: int) -> NDArray[np.int8]:
    """Return all orders ``(n!, n)`` of n places."""
    places = itertools.chain.from_iterable(itertools.permutations(range(n)))
    return np.fromiter(places, dtype=np.int8, count=n * math.factorial(n)).reshape(-1, n)


def differs_between(groups: list[Values]) -> float | None:
    """Return the p-value of the Kruskal-Wallis test that all groups are alike; None where there is nothing to test."""
    large = [values for values in groups if len(values) > 1]
    if len(large) < 2 or not np.ptp(np.concatenate(large)):
        return None
    return float(stats.kruskal(*large).pvalue)
