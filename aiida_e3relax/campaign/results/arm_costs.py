"""What each crystal costs from each arm, all of them held against one raw leg."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pandas as pd

from aiida_e3relax.campaign.results.outcomes import COSTS, COUNTED, STOPPED, find_outcomes, own_cost, pair_costs

RAW_LEG = (*(f'raw_{cost}' for cost in COSTS), 'raw_cores', 'raw_vasp_runs_from_cache')
"""The columns that say what a raw leg cost."""
WITHOUT_RAW = ('raw failed', 'no reference')
"""The outcomes of a crystal that was relaxed from the prediction and not from the raw crystal."""


def share_raw_legs(frames: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return the tables of arms with one raw leg for each crystal, that of the first arm by name that has one.

    Arms of one campaign have the same ones anyway. A crystal whose chain left no figures gets it, too, so that it
    counts, see `outcomes.pair_costs`.
    """
    known = pd.concat([frames[name].loc[pair_costs(frames[name]).index, list(RAW_LEG)] for name in sorted(frames)])
    first = known[known['raw_ionic_steps'].notna()]
    first = first[~first.index.duplicated()]
    shared = {}
    for name, frame in frames.items():
        takes = find_outcomes(frame).isin((*COUNTED, *STOPPED)) & frame.index.isin(first.index)
        labels = frame.index[takes]
        shared[name] = frame.copy()
        shared[name].loc[labels, list(RAW_LEG)] = first.loc[labels]
    return shared


def find_raw_failed(frames: Mapping[str, pd.DataFrame]) -> tuple[str, ...]:
    """Return the crystals on which VASP failed from the raw crystal, in an arm or in the base campaign of one."""
    failed: set[str] = set()
    for frame in frames.values():
        failed |= set(frame.index[(frame['raw_finished'] == False) | (frame['raw_leg_failed'] == True)])  # noqa: E712
    return tuple(sorted(failed))


def costs_of_arm(frame: pd.DataFrame, pairs: pd.DataFrame, raw_failed: Collection[str]) -> pd.DataFrame:
    """Return by cost what each crystal of a table takes from an arm, NaN where it counts in no comparison.

    They are those of `pairs`, see `outcomes.pair_costs`, and where there is nothing to save, since VASP failed from
    the raw crystal, what the relaxation from the prediction took.
    """
    costs = pairs.xs('with', axis=1, level=1).reindex(frame.index)
    alone = find_outcomes(frame).isin(WITHOUT_RAW) & frame.index.isin(list(raw_failed))
    for cost in COSTS:
        costs[cost] = costs[cost].where(~alone, frame[f'predicted_{cost}'] + own_cost(frame, cost))
    return costs
