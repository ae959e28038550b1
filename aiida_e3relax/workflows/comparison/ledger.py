"""The ledger: the same relaxation with and without the prediction, compared in numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from aiida import orm
from aiida.engine import calcfunction

from aiida_e3relax.crystals.freedom.freedom import Freedom
from aiida_e3relax.crystals.geometry import displacements, is_same_crystal
from aiida_e3relax.crystals.metrics import cell_shape_deviation, volume_error
from aiida_e3relax.crystals.validation import has_sound_geometry
from aiida_e3relax.workflows.comparison.legs import Leg, read_leg
from aiida_e3relax.workflows.comparison.remarks import SAME_ENERGY, cores_differ, find_remarks
from aiida_e3relax.workflows.comparison.vasp_runs import MeasuredStep, VaspRun
from aiida_e3relax.workflows.network.report import find_remarks as find_remarks_on_network
from aiida_e3relax.workflows.network.report import network_facts

SCHEMA = 1

WALL_TIME = 'wall_time{}_s'
COSTS: dict[str, Callable[[VaspRun], float | None]] = {
    'ionic_steps{}': lambda run: run.ionic_steps,
    'electronic_steps{}': lambda run: run.electronic_steps,
    WALL_TIME: lambda run: run.wall_time,
    'core_time{}_s': lambda run: run.core_time,
}
"""The costs of a relaxation: their keys in the comparison, with room for `_saved`, and where they lie in a run."""
TIMES = (WALL_TIME, 'core_time{}_s')
"""The costs that depend on the machine and on what else it does."""


def compare_legs(raw: Leg | None, predicted: Leg | None, raw_is_earlier: bool = False) -> dict[str, Any]:
    """Return the figures of each leg, None for one that did not run, and what the prediction saved.

    Keys carry their units. The savings are there only when both legs finished; of the times they are None where AiiDA
    took one leg from its cache and not the other, of the wall time also where the legs ran on different numbers of
    cores. With `raw_is_earlier`, where another chain ran the raw leg, the times are no ones side by side. Within a leg
    a value is None where a run has not left it, of one that failed where none has, and where it would not be what its
    key says, of which `find_remarks` tells.
    """
    comparison = {
        'schema': SCHEMA,
        'raw': raw and _leg_figures(raw),
        'predicted': predicted and _leg_figures(predicted),
    }
    if raw and raw.last and predicted and predicted.last:
        comparison |= _savings(raw, predicted, raw_is_earlier) | _minimum_figures(raw.last, predicted.last)
    return comparison


@calcfunction
def compare(
    structure: orm.StructureData,
    circumstances: orm.Dict,
    prediction: orm.StructureData | None = None,
    verdict: orm.Dict | None = None,
    network_report: orm.Dict | None = None,
    label: orm.Str | None = None,
    **legs: Any,
) -> orm.Dict:
    """Return the node `comparison`, made from the nodes that the legs left.

    Parameters
    ----------
    structure
        The raw crystal.
    circumstances
        What no data node says: `freedom`, `remarks`, sentences on steps that failed or were left out, whether the
        `raw_leg_is_earlier`, that of another chain, and by leg `runs_from_cache`, of `count_from_cache`, and `algos`,
        how VASP moved the ions. Those of the network's run and of `find_remarks` follow `remarks`.
    prediction
        Where the predicted leg started.
    verdict, network_report
        The guard's verdict, and the report of the network's run if it succeeded.
    label
        The crystal's name in that report; not needed where it was predicted alone.
    legs
        `raw` and `predicted`: the nodes of `collect_leg` of each leg that ran.
    """
    told = circumstances.get_dict()
    cached, algos, is_earlier = told.pop('runs_from_cache'), told.pop('algos'), told.pop('raw_leg_is_earlier', False)
    freedom = Freedom.from_value(told['freedom'])
    starts = {'raw': structure, 'predicted': prediction}
    measured: dict[str, Leg] = {
        name: read_leg(start, legs[name], cached[name], algos[name], freedom)
        for name, start in starts.items()
        if start and name in legs
    }
    raw, predicted = measured.get('raw'), measured.get('predicted')
    network = network_facts(network_report.get_dict(), label.value if label else None) if network_report else None
    on_network = find_remarks_on_network(network) if network else []
    return orm.Dict(
        {
            'formula': structure.get_pymatgen_structure().composition.reduced_formula,
            'n_atoms': len(structure.sites),
            **told,
            'remarks': [*told['remarks'], *on_network, *find_remarks(raw, predicted)],
            'guard': verdict and {key: verdict[key] for key in ('verdict', 'reasons')},
            'network': network,
            **compare_legs(raw, predicted, is_earlier),
        }
    )


def _leg_figures(leg: Leg) -> dict[str, Any]:
    return {
        'code_version': leg.code_version,
        'stand_in': leg.stand_in,
        'cores': leg.cores,
        'algo': leg.algo,
        'finished': leg.last is not None,
        'vasp_runs': len(leg.runs),
        'vasp_runs_from_cache': leg.runs_from_cache,
        **{name.format(''): leg.total(cost) for name, cost in COSTS.items()},
        'static_wall_time_s': leg.static_wall_time,
        **(_step_figures(leg.first, 'first_step') if leg.first else {}),
        **(_step_figures(leg.last, 'final') if leg.last else {}),
        **_start_errors(leg),
    }


def _step_figures(step: MeasuredStep, name: str) -> dict[str, float]:
    return {
        f'energy_{name}_eV_per_atom': step.energy,
        f'max_force_{name}_eV_per_A': step.max_force,
        f'pressure_{name}_kB': step.pressure,
        f'volume_{name}_A3': float(step.crystal.volumes[0]),
    }


def _start_errors(leg: Leg) -> dict[str, float | None]:
    """Return how far a leg's start was from its end, by the papers' measures; {} where one cannot be computed with."""
    first, last = leg.first, leg.last
    if not first or not last or not all(has_sound_geometry(step.crystal).all() for step in (first, last)):
        return {}
    comparable = leg.starts_converged and not leg.other_surface
    return {
        'start_energy_error_meV_per_atom': 1e3 * (first.energy - last.energy) if comparable else None,
        'start_coordinate_mae_A': float(np.abs(displacements(first.crystal, last.crystal)).mean()),
        'start_cell_shape_deviation_A2': float(cell_shape_deviation(first.crystal, last.crystal)[0]),
        'start_volume_error_A3': float(volume_error(first.crystal, last.crystal)[0]),
    }


def _savings(raw: Leg, predicted: Leg, raw_is_earlier: bool) -> dict[str, float | None]:
    """Return what the prediction saved; what it cost on top is negative."""
    saved: dict[str, float | None] = {}
    one_cached = bool(raw.runs_from_cache) != bool(predicted.runs_from_cache)
    other_cores = cores_differ(raw, predicted)
    for name, cost in COSTS.items():
        before, after = raw.total(cost), predicted.total(cost)
        apart = (one_cached and name in TIMES) or (other_cores and name == WALL_TIME)
        saved[name.format('_saved')] = None if before is None or after is None or apart else before - after
    steps, steps_saved = raw.total(COSTS['ionic_steps{}']), saved['ionic_steps_saved']
    percent = 100.0 * steps_saved / steps if steps and steps_saved is not None else None
    is_side_by_side = not (one_cached or other_cores or raw_is_earlier)
    return saved | {'ionic_steps_saved_percent': percent, 'times_side_by_side': is_side_by_side}


def _minimum_figures(raw: MeasuredStep, predicted: MeasuredStep) -> dict[str, Any]:
    difference = predicted.energy - raw.energy
    return {
        'energy_difference_final_meV_per_atom': 1e3 * difference,
        'same_minimum': abs(difference) < SAME_ENERGY and is_same_crystal(raw.crystal, predicted.crystal),
    }
