"""What each crystal costs from each arm, against the raw leg of that arm, and where raw legs failed or differ."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import pandas as pd

from aiida_e3relax.campaign.results.noise import ENERGY
from aiida_e3relax.campaign.results.outcomes import COSTS, find_outcomes, own_cost, pair_costs

WAITING = ('waiting', 'running')
"""The states of a structure that has not ended."""
WITHOUT_RAW = ('raw failed', 'no reference')
"""The outcomes of a crystal that was relaxed from the prediction and not from the raw crystal."""
RAW_LEG = {'raw_ionic_steps': 0.0, 'raw_core_time_s': 0.0, 'raw_energy_final_eV_per_atom': 1e-3 * ENERGY}
"""By column how far two tables of one raw leg may be apart in it."""


def find_begun(frames: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return the tables of the arms of which a structure has ended, since others are in no figure; all if none has."""
    begun = {name: frame for name, frame in frames.items() if not frame['state'].isin(WAITING).all()}
    return begun or dict(frames)


def find_other_raw_legs(frames: Iterable[pd.DataFrame]) -> tuple[str, ...]:
    """Return the crystals of which the tables of arms do not all have the same raw leg."""
    legs = pd.concat([frame.loc[pair_costs(frame).index, list(RAW_LEG)] for frame in frames])
    by_label = legs.groupby(level=0)
    apart = (by_label.max() - by_label.min()) > pd.Series(RAW_LEG)
    return tuple(sorted(apart.index[apart.any(axis=1)]))


def find_raw_failed(frames: Iterable[pd.DataFrame]) -> tuple[str, ...]:
    """Return the crystals on which VASP failed from the raw crystal, by the tables of arms and their base campaigns."""
    failed: set[str] = set()
    for frame in frames:
        failed |= set(frame.index[frame['raw_finished'] == False])  # noqa: E712
    return tuple(sorted(failed))


def is_relaxed_alone(frame: pd.DataFrame, raw_failed: Collection[str]) -> pd.Series:
    """Return on which rows VASP failed from the raw crystal, of `find_raw_failed`, and finished from the arm."""
    return find_outcomes(frame).isin(WITHOUT_RAW) & frame.index.isin(list(raw_failed))


def costs_of_arm(frame: pd.DataFrame, pairs: pd.DataFrame, raw_failed: Collection[str]) -> pd.DataFrame:
    """Return by cost what each crystal of a table takes from an arm, NaN where that is not known.

    They are those of `pairs`, see `outcomes.pair_costs`, and where there is nothing to save, since VASP failed from
    the raw crystal, what the relaxation from the prediction took.
    """
    costs = pairs.xs('with', axis=1, level=1).reindex(frame.index)
    alone = is_relaxed_alone(frame, raw_failed)
    for cost in COSTS:
        costs[cost] = costs[cost].where(~alone, frame[f'predicted_{cost}'] + own_cost(frame, cost))
    return costs
