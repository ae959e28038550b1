"""Bounds of the guard that a tuned model cannot be held to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida_e3relax.calculations.train_parameters import FEWEST_TO_SCALE
from aiida_e3relax.workflows.allowed_values import GuardMode

ENSEMBLE = 'ensemble'


def needs_calibration(guard: Mapping[str, Any], architecture: str) -> bool:
    """Return whether a guard rejects by what a model of this `architecture` states only once it has been scaled."""
    is_bound = guard.get('mode') == GuardMode.REJECT and guard.get('uncertainty_max_A') is not None
    return is_bound and architecture == ENSEMBLE


def find_bound_fault(guard: Mapping[str, Any], architecture: str, n_stopping: int) -> str | None:
    """Return which bound of a guard that rejects would mean nothing, or reject all, after a training; None for none.

    `n_stopping` is how many pairs decide when the training of a model of this `architecture` stops, by whose errors the
    uncertainty of an ensemble is scaled.
    """
    if guard.get('mode') != GuardMode.REJECT:
        return None
    if guard.get('distance_to_training_max') is not None:
        return (
            'the guard bounds the distance to the training (`distance_to_training_max`), which a tuned model cannot '
            'tell, so that it would reject every prediction of it'
        )
    if needs_calibration(guard, architecture) and n_stopping < FEWEST_TO_SCALE:
        return (
            'the guard bounds the uncertainty (`uncertainty_max_A`), which a tuned ensemble states wrongly unless it '
            f'is scaled to its errors on {FEWEST_TO_SCALE} relaxations that stop the training, and there would be '
            f'{n_stopping}'
        )
    return None
