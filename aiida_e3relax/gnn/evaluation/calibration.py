"""Calibration: how well the uncertainties that a model states agree with its errors, and what would agree better."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_BINS = 10

POWERS = (0.5, 6.0)
"""Of the growth of errors with the distance: from slowly, to hardly before it is large."""


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Stated uncertainties and the errors found, of the P structures that have both.

    Attributes
    ----------
    stated
        ``(P,)`` uncertainty in A: the error expected of the lengths of a crystal's bonds.
    bond_error, coordinate_error
        ``(P,)`` mean absolute errors found, in A.
    distance
        ``(P,)`` distances to the crystals of the training; None of models that state none.
    """

    stated: NDArray[np.float64]
    bond_error: NDArray[np.float64]
    coordinate_error: NDArray[np.float64]
    distance: NDArray[np.float64] | None = None

    @staticmethod
    def of(
        stated: NDArray[np.float64],
        bond_error: NDArray[np.float64],
        coordinate_error: NDArray[np.float64],
        distance: NDArray[np.float64] | None = None,
    ) -> Calibration:
        """Return it for arrays ``(S,)``, in which NaN marks what is not there."""
        found = Calibration(stated, bond_error, coordinate_error, distance)
        return found.select(np.isfinite(stated) & np.isfinite(bond_error))

    def select(self, chosen: NDArray[np.bool_]) -> Calibration:
        """Return that of the `chosen` crystals ``(P,)``."""
        near = None if self.distance is None else self.distance[chosen]
        return Calibration(self.stated[chosen], self.bond_error[chosen], self.coordinate_error[chosen], near)

    @staticmethod
    def concatenate(parts: Sequence[Calibration]) -> Calibration:
        """Return several as one; with distances where all have them."""
        distances = [part.distance for part in parts if part.distance is not None]
        return Calibration(
            np.concatenate([part.stated for part in parts]),
            np.concatenate([part.bond_error for part in parts]),
            np.concatenate([part.coordinate_error for part in parts]),
            np.concatenate(distances) if len(distances) == len(parts) else None,
        )

    def row(self) -> dict[str, Any]:
        """Return the figures for a table; None where they say nothing.

        Spearman's correlation with either error, and the median over the structures of the bonds' error over the
        uncertainty: a model that knows itself has 1.
        """
        sure = self.stated > 0
        ratio = self.bond_error[sure] / self.stated[sure]
        return {
            'uncertainty_A_median': float(np.median(self.stated)) if len(self.stated) else None,
            'spearman_coordinates': _rank_correlation(self.stated, self.coordinate_error),
            'spearman_bonds': _rank_correlation(self.stated, self.bond_error),
            'observed_over_stated_median': float(np.median(ratio)) if len(ratio) else None,
            **({} if self.distance is None else distance_row(self.distance, self.bond_error)),
        }

    def binned(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the median uncertainty ``(B,)`` of bins of as many structures, and quartiles ``(3, B)`` of errors.

        Errors are those of the bonds. There are up to ten bins, of at least five structures each unless they are fewer.
        """
        count = int(np.clip(len(self.stated) // 5, 1, MOST_BINS))
        bins = np.array_split(np.argsort(self.stated, kind='stable'), count)
        medians = np.array([np.median(self.stated[chosen]) for chosen in bins])
        return medians, np.array([np.quantile(self.bond_error[chosen], [0.25, 0.5, 0.75]) for chosen in bins]).T


def distance_row(distance: NDArray[np.float64], bond_error: NDArray[np.float64]) -> dict[str, Any]:
    """Return the figures of distances to the training ``(S,)`` for a table; NaN are left out.

    Their median, the share of crystals that are unlike the training, and Spearman's correlation with the bonds' errors.
    """
    known = np.isfinite(distance) & np.isfinite(bond_error)
    distance, bond_error = distance[known], bond_error[known]
    return {
        'distance_median': float(np.median(distance)) if len(distance) else None,
        'unlike_training_percent': float(100 * np.mean(distance > 1)) if len(distance) else None,
        'spearman_distance_bonds': _rank_correlation(distance, bond_error),
    }


def _rank_correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float | None:
    """Return Spearman's correlation, or None of fewer than two values or of values that are all the same."""
    from scipy.stats import spearmanr

    if len(one) < 2 or not np.ptp(one) or not np.ptp(other):
        return None
    return float(spearmanr(one, other).statistic)
