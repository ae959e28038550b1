"""What became of each structure of a campaign, and what its relaxation cost with the network and without."""

from __future__ import annotations

import pandas as pd

from aiida_e3relax.workflows.guard import REJECTED

OUTCOMES = {
    'compared': 'relaxed both ways',
    'rejected': 'prediction rejected by the guard, relaxed from the raw structure',
    'no prediction': 'not predicted, relaxed from the raw structure',
    'predicted failed': 'VASP failed from the prediction, relaxed from the raw structure',
    'raw failed': 'VASP failed from the raw structure, relaxed from the prediction',
    'no reference': 'relaxed from the prediction alone',
    'both failed': 'not relaxed, VASP failed',
    'no comparison': 'failed without a comparison',
    'excepted': 'stopped by an exception',
    'killed': 'killed',
    'running': 'running',
    'waiting': 'waiting',
}
"""What can become of a structure, and the same in words."""
COUNTED = ('compared', 'rejected', 'no prediction', 'predicted failed')
"""The outcomes in which the cost with the network and without is known."""
STOPPED = ('no comparison', 'excepted', 'killed')
"""The outcomes in which a chain left no figures."""
FAILURES = ('predicted failed', 'raw failed', 'both failed', *STOPPED)
OF_LEGS = {
    (True, True): 'compared',
    (True, False): 'predicted failed',
    (False, True): 'raw failed',
    (None, True): 'no reference',
}
"""By whether the raw and the predicted leg finished, None for one that did not run."""
COSTS = ('ionic_steps', 'electronic_steps', 'wall_time_s', 'core_time_s')
TIMES = ('wall_time_s', 'core_time_s')
"""The costs to which the time of the network is added, a second of a GPU as a second of a core."""


def find_outcomes(frame: pd.DataFrame) -> pd.Series:
    """Return the outcome, a key of `OUTCOMES`, of each row of a campaign's table."""
    return frame.apply(_find_outcome, axis=1, result_type='reduce').astype(object)


def pair_costs(frame: pd.DataFrame) -> pd.DataFrame:
    """Return what each structure cost `without` the network and `with` it, for the outcomes in `COUNTED`.

    Only structures of the reference sample are there: the others have a raw leg just where the prediction was of no
    use, and would count the failures alone. With the network a structure costs

    - the predicted leg, where both legs finished;
    - the raw leg, where the guard rejected the prediction or there was none: nothing was saved;
    - both, where VASP failed from the prediction: what was spent on it is lost, and counts as far as it is known;

    and, in times, the network's.

    Returns
    -------
    DataFrame
        Indexed as `frame`, with the columns ``(cost, 'without')`` and ``(cost, 'with')`` for each of `COSTS`. A cost is
        NaN where a run was killed before it wrote it, but for one that failed from the prediction. So are the times of
        legs that are `times_apart`, and the wall times of legs that ran on different numbers of cores.
    """
    outcomes = find_outcomes(frame)
    counted = frame[outcomes.isin(COUNTED) & frame['in_sample'].astype(bool)]
    outcomes = outcomes[counted.index]
    both = outcomes.isin(('compared', 'predicted failed'))
    raw_cores, predicted_cores = counted['raw_cores'], counted['predicted_cores']
    other_cores = raw_cores.notna() & predicted_cores.notna() & (raw_cores != predicted_cores)
    core_times_apart = times_apart(counted) & both
    apart = {'wall_time_s': core_times_apart | (other_cores & both), 'core_time_s': core_times_apart}
    columns = {}
    for cost in COSTS:
        raw, predicted = counted[f'raw_{cost}'], counted[f'predicted_{cost}']
        spent = predicted.where(outcomes == 'compared', raw)
        spent = spent.where(outcomes != 'predicted failed', raw + predicted.fillna(0.0))
        columns[cost, 'without'] = raw.mask(apart[cost]) if cost in TIMES else raw
        columns[cost, 'with'] = (spent + own_cost(counted, cost)).mask(apart[cost]) if cost in TIMES else spent
    return pd.DataFrame(columns, index=counted.index, dtype='float64')


def own_cost(frame: pd.DataFrame, cost: str) -> pd.Series:
    """Return what the network, or a potential, took itself in a cost; its core time is the wall time in old tables."""
    if cost not in TIMES:
        return pd.Series(0.0, index=frame.index)
    wall_time = frame['network_wall_time_s']
    time = frame.get('network_core_time_s', wall_time) if cost == 'core_time_s' else wall_time
    return time.fillna(wall_time).fillna(0.0)


def times_apart(frame: pd.DataFrame) -> pd.Series:
    """Return of which rows AiiDA took one leg from its cache and not the other: no times measured side by side."""
    raw, predicted = (frame[f'{leg}_vasp_runs_from_cache'] > 0 for leg in ('raw', 'predicted'))
    return raw != predicted


def _find_outcome(row: pd.Series) -> str:
    if row['state'] in ('waiting', 'running', 'excepted', 'killed'):
        return row['state']
    legs = row['raw_finished'], row['predicted_finished']
    if legs == (None, None):
        return 'no comparison'
    if legs == (True, None):
        return 'rejected' if row['verdict'] == REJECTED else 'no prediction'
    return OF_LEGS.get(legs, 'both failed')
