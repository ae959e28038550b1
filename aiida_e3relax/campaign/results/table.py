"""A campaign as a table: one row a structure, whatever became of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from aiida_e3relax.calculations.pre_relaxer import NETWORK
from aiida_e3relax.campaign.arms import RAW_ALONE, find_base, find_pre_relaxer
from aiida_e3relax.campaign.group import load_campaign
from aiida_e3relax.campaign.results.records import (
    read_chains,
    read_comparisons,
    read_compositions,
    read_references,
)
from aiida_e3relax.campaign.rounds.history import find_history, read_generations
from aiida_e3relax.campaign.submission.processes import State
from aiida_e3relax.workflows.comparison.reference import Reference
from aiida_e3relax.workflows.network.report import find_relaxation

LEGS = ('raw', 'predicted')
FACTS = (
    'structure_uuid',
    'chain_uuid',
    'chain_pk',
    'state',
    'exit_status',
    'exit_message',
    'attempts',
    'formula',
    'n_atoms',
    'elements',
    'verdict',
    'reasons',
    'remarks',
    'pre_relaxer',
    'model',
    'generation',
    'device',
    'nearest_training',
    'potential_error',
    'potential_converged',
    'potential_left_basin',
)
"""What names things; missing is None."""
NUMBERS = (
    'network_wall_time_s',
    'network_core_time_s',
    'uncertainty_A',
    'distance_to_training',
    'energy_difference_final_meV_per_atom',
    'ionic_steps_saved',
    'ionic_steps_saved_percent',
    'electronic_steps_saved',
    'wall_time_saved_s',
    'core_time_saved_s',
)
"""Measures of a pair of legs; missing is NaN."""
LEG_FACTS = ('code_version', 'stand_in', 'finished', 'algo')
LEG_NUMBERS = (
    'cores',
    'vasp_runs',
    'vasp_runs_from_cache',
    'ionic_steps',
    'electronic_steps',
    'wall_time_s',
    'core_time_s',
    'static_wall_time_s',
    'energy_first_step_eV_per_atom',
    'max_force_first_step_eV_per_A',
    'pressure_first_step_kB',
    'volume_first_step_A3',
    'energy_final_eV_per_atom',
    'max_force_final_eV_per_A',
    'pressure_final_kB',
    'volume_final_A3',
    'start_energy_error_meV_per_atom',
    'start_coordinate_mae_A',
    'start_cell_shape_deviation_A2',
    'start_volume_error_A3',
)
"""Measures of a leg, as `docs/chain.md` has them; missing is NaN."""
NUMBER_COLUMNS = (*NUMBERS, *(f'{leg}_{key}' for leg in LEGS for key in LEG_NUMBERS))
COLUMNS = (
    *FACTS,
    'in_sample',
    'raw_leg_planned',
    'judge',
    'same_minimum',
    *NUMBERS,
    *(f'{leg}_{key}' for leg in LEGS for key in (*LEG_FACTS, *LEG_NUMBERS)),
)


def campaign_frame(name: str) -> pd.DataFrame:
    """Return the campaign `name` as a table, in four queries whatever its size, and more of an arm or one that learns.

    There is one row for each structure of the campaign, in the order of its settings, failed and unfinished ones
    included; `state` is `waiting` where no chain has started yet. Where a structure has several chains, counted in
    `attempts`, the row is that of the newest. `in_sample` are the structures of the sample; of an arm without those for
    which its base campaign had no raw leg, since a raw leg then runs just where the prediction is of no use.
    `raw_leg_planned` are those whose raw crystal this campaign relaxes in any case. Where its model learns, `judge` are
    the structures that judge, and `generation` is the number of the model that made the prediction.

    Returns
    -------
    DataFrame
        With `COLUMNS` and the index `label`. Units stand in the names. Measures are float64 with NaN where missing,
        everything else is of Python's types with None.

    Raises
    ------
    ValueError
        When there is no campaign of that name, and when structures of it have been deleted.
    """
    group = load_campaign(name)
    settings, node = group.settings, group.settings_node
    chains = read_chains(node)
    comparisons = read_comparisons(node)
    references = read_references(node) if settings.raw_legs_of else {}
    base = find_base(settings) if settings.raw_legs_of else None
    sampling = base.settings if base else settings
    newest = {chain['label']: chain for chain in chains.values()}
    waiting = {label: uuid for label, uuid in settings.structures.items() if label not in newest}
    structures = read_compositions(waiting.values())
    if deleted := [label for label, uuid in waiting.items() if uuid not in structures]:
        raise ValueError(
            f'campaign `{name}`: {len(deleted)} of its structures have been deleted from the profile, such as '
            f'`{deleted[0]}`; import them again from an archive of it, or create the campaign anew'
        )
    newest |= {
        label: {'label': label, 'structure_uuid': uuid, 'state': State.WAITING.value, **structures[uuid]}
        for label, uuid in waiting.items()
    }
    attempts = Counter(chain['label'] for chain in chains.values())
    rows: list[dict[str, Any]] = []
    asked = find_pre_relaxer(settings)
    own = {} if asked == RAW_ALONE else {'pre_relaxer': asked}
    history = find_history(node)
    learns = bool(settings.learning or history.rounds)
    models = read_generations(settings.chain.get('model'), history) if learns else []
    generations = {generation.content_hash: generation.number for generation in models}
    is_base = settings.raw_legs_of is None
    for label in settings.structures:
        uuid = newest[label].get('chain_uuid', '')
        row = own | make_row(newest[label], comparisons.get(uuid))
        was_planned, is_without = sampling.has_raw_leg(label), references.get(uuid) == Reference.NEVER
        row |= {'attempts': attempts[label], 'in_sample': was_planned and not is_without}
        row['raw_leg_planned'] = is_base and settings.has_raw_leg(label)
        if learns:
            row |= {'judge': label in settings.judge_set, 'generation': generations.get(row.get('model') or '')}
        rows.append(row)
    return make_frame(rows)


def make_row(chain: Mapping[str, Any], comparison: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the row of a chain of `read_chains`, with its comparison where it has one."""
    if comparison is None:
        return dict(chain)
    guard, network = comparison['guard'] or {}, comparison['network'] or {}
    potential = find_relaxation(network) or {}
    row = {
        **chain,
        'verdict': guard.get('verdict'),
        'reasons': guard.get('reasons'),
        'remarks': comparison['remarks'],
        'pre_relaxer': network.get('pre_relaxer', NETWORK) if network else None,
        'model': network.get('content_hash'),
        'device': network.get('device'),
        'network_wall_time_s': network.get('wall_time_s'),
        'network_core_time_s': network.get('core_time_s'),
        'uncertainty_A': network.get('uncertainty_A'),
        'distance_to_training': network.get('distance_to_training'),
        'nearest_training': (network.get('nearest_training') or {}).get('formula'),
        **{f'potential_{key}': potential.get(key) for key in ('error', 'converged', 'left_basin')},
    }
    row |= {key: comparison[key] for key in ('same_minimum', *NUMBERS) if key in comparison}
    for leg in LEGS:
        row |= {f'{leg}_{key}': value for key, value in (comparison[leg] or {}).items()}
    return row


def make_frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows as a table with `COLUMNS`; keys that have no column are left out."""
    table = pd.DataFrame(list(rows), columns=['label', *COLUMNS], dtype=object).set_index('label')
    table = table.where(table.notna(), None)
    return table.astype(dict.fromkeys(NUMBER_COLUMNS, 'float64'))
