"""Errors to expect by what a model states of a crystal: the law that agrees best with errors found."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.gnn.evaluation.calibration import Calibration

POWERS = (0.5, 6.0)
"""Of the growth with the distance: from slowly, to hardly before the distance is large."""

FEW = 20
"""Groups of fewer crystals count the less, the fewer they have: their median is chance."""


@dataclasses.dataclass(frozen=True)
class ErrorLaw:
    """Errors of bond lengths in A by what a model states: ``scale * hypot(stated, coefficient * distance ** power)``.

    A part that tells alike and one that tells apart, as in Janet et al., Chem. Sci. 10, 7913 (2019), eq. 1. Distances
    above `limit`, the largest that the law was found from, count as this.
    """

    scale: float
    coefficient: float = 0.0
    power: float = 1.0
    limit: float = np.inf

    def expected(self, found: Calibration) -> NDArray[np.float64]:
        """Return the errors ``(P,)`` to expect."""
        if found.distance is None or not self.coefficient:
            return self.scale * found.stated
        distance = np.minimum(found.distance, self.limit)
        return self.scale * np.hypot(found.stated, self.coefficient * distance**self.power)

    def ratio(self, found: Calibration) -> float | None:
        """Return the median of the errors found over those expected; None where none is expected."""
        expected = self.expected(found)
        sure = expected > 0
        return float(np.median(found.bond_error[sure] / expected[sure])) if sure.any() else None


def fit_errors(groups: Sequence[Calibration]) -> ErrorLaw | None:
    """Return the law that agrees best with the errors found in groups of crystals; None where nothing can be told.

    What is least is the mean of ``|log(error / expected)|`` over the crystals of a group, and over groups. So half of
    the errors are larger than expected and half smaller, no outlier pulls, and a small family counts as much as a large
    data set, one of `FEW` crystals or more. Where a model states no distance, the scale is all there is to choose.
    """
    groups = [group for group in map(_with_errors, groups) if len(group.stated)]
    if not groups:
        return None
    found = Calibration.concatenate(groups)
    weight = np.concatenate([np.full(len(group.stated), 1 / max(len(group.stated), FEW)) for group in groups])
    if found.distance is None or not found.distance.any():
        return _best_scaled(ErrorLaw(1.0), found, weight)[0]
    from scipy.optimize import minimize

    typical, limit = float(np.median(found.bond_error)), float(found.distance.max())

    def law(logs: NDArray[np.float64]) -> ErrorLaw:
        coefficient, power = np.exp(logs).tolist()
        return ErrorLaw(1.0, typical * coefficient, min(max(power, POWERS[0]), POWERS[1]), limit)

    def loss(logs: NDArray[np.float64]) -> float:
        return _best_scaled(law(logs), found, weight)[1]

    starts = [np.array([c, p]) for c in np.linspace(-6, 3, 19) for p in np.log(np.geomspace(*POWERS, 8))]
    best = minimize(loss, min(starts, key=loss), method='Nelder-Mead', options={'maxiter': 400})
    with_distance, least = _best_scaled(law(best.x), found, weight)
    if not found.stated.all():
        return with_distance
    without, more = _best_scaled(ErrorLaw(1.0), found, weight)
    return with_distance if least < more else without


def _with_errors(found: Calibration) -> Calibration:
    """Return the crystals with an error, and with something that it can be told from."""
    told = found.stated > 0
    if found.distance is not None:
        told |= found.distance > 0
    return found.select(told & (found.bond_error > 0))


def _best_scaled(law: ErrorLaw, found: Calibration, weight: NDArray[np.float64]) -> tuple[ErrorLaw, float]:
    """Return `law` with the best scale, the weighted median of what errors are over it, and its loss."""
    expected = law.expected(found)
    ratio = np.log(found.bond_error / np.maximum(expected, 1e-300))
    order = np.argsort(ratio, kind='stable')
    sums = np.cumsum(weight[order])
    below = np.searchsorted(sums, sums[-1] / 2 * (1 - 1e-12))
    above = min(np.searchsorted(sums, sums[-1] / 2 * (1 + 1e-12)), len(order) - 1)
    middle = np.log(np.exp(ratio[order[[below, above]]]).mean())
    return dataclasses.replace(law, scale=float(np.exp(middle))), float(weight @ np.abs(ratio - middle))
