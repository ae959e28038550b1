"""Reading the output `report` of a run of the network: what it says of one structure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida_e3relax.calculations.pre_relaxer import PreRelaxer
from aiida_e3relax.common.messages import short

LONGEST_ERROR = 300
"""In characters, in a remark."""


def find_row(report: Mapping[str, Any], label: str | None = None) -> Mapping[str, Any]:
    """Return what a report says of one structure; without `label` it must be the only one of its run.

    Raises ValueError for a label that the report does not know, and for none where there are several.
    """
    rows = report['structures']
    if label is None:
        if len(rows) != 1:
            raise ValueError(f'expected a label, or the report of a run of one structure, found one of {len(rows)}')
        return rows[0]
    row = next((row for row in rows if row['label'] == label), None)
    if row is None:
        raise ValueError(f'the report of the network tells of {len(rows)} structures, and of none labelled `{label}`')
    return row


def stated_uncertainty(report: Mapping[str, Any], label: str | None = None) -> float | None:
    """Return the uncertainty that the network states of a structure, in A; None of networks that state none.

    Raises ValueError as `find_row` does.
    """
    return find_row(report, label).get('uncertainty_A')


def stated_distance(report: Mapping[str, Any], label: str | None = None) -> float | None:
    """Return how far a structure is from what the network was trained on; None of networks that cannot tell.

    Raises ValueError as `find_row` does.
    """
    return find_row(report, label).get('distance_to_training')


def stated_energy_rise(report: Mapping[str, Any], label: str | None = None) -> float | None:
    """Return by how much a prediction lies above the raw crystal in energy, in eV/atom, by the potential of the run.

    None where no potential was asked, where it failed, and of a scaling, which knows no energies. Raises ValueError as
    `find_row` does.
    """
    row = find_row(report, label)
    opinion = row.get('potential') or row.get('second_opinion', {})
    after, before = (opinion.get(f'energy_{name}_eV_per_atom') for name in ('prediction', 'input'))
    return None if 'error' in opinion or after is None or before is None else after - before


def network_facts(report: Mapping[str, Any], label: str | None = None) -> dict[str, Any]:
    """Return the facts on the prediction of a structure for the comparison.

    `wall_time_s` is the time that the potential took for it, where the report says so, and its share of the rest of the
    run, loading the checkpoint included, by the number of atoms. `core_time_s` is that times the threads of a run on a
    CPU, and the same on a GPU; None where the report does not say how many threads there were. Raises ValueError as
    `find_row` does.
    """
    rows, row = report['structures'], find_row(report, label)
    share = row['n_atoms'] / sum(other['n_atoms'] or 0 for other in rows)  # None of what could not be read
    rest = max(0.0, report['timings_s']['total'] - sum(map(_own_time, rows)))
    model, potential = report['model'], report.get('potential')
    wall_time = _own_time(row) + share * rest
    threads = report['device'].get('threads') if report['device']['used'].startswith('cpu') else 1
    return {
        'pre_relaxer': str(PreRelaxer.of_report(report)),
        'content_hash': model and model['content_hash'],
        'device': report['device']['used'],
        'structures_in_run': len(rows),
        'wall_time_s': wall_time,
        'core_time_s': threads and threads * wall_time,
        'uncertainty_A': stated_uncertainty(report, label),
        **{key: row.get(key) for key in ('distance_to_training', 'unlike_training', 'nearest_training')},
        'second_opinion': {**report['second_opinion'], **row['second_opinion']} if 'second_opinion' in row else None,
        'potential': potential and _merge(potential, row.get('potential')),
    }


def find_relaxation(facts: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return from the facts of a comparison what a potential did to the structure; None where none was to relax it."""
    opinion = facts.get('second_opinion')
    return facts.get('potential') or (opinion if opinion and opinion.get('steps') else None)


def find_remarks(facts: Mapping[str, Any]) -> list[str]:
    """Return, in a sentence without a full stop, that the potential of a run failed and the network's word stands."""
    relaxation = find_relaxation(facts)
    if not relaxation or 'error' not in relaxation or facts['content_hash'] is None:
        return []
    return [
        f'{relaxation["potential"]} could not relax the crystal, and its prediction is that of the network alone: '
        f'{short(relaxation["error"], LONGEST_ERROR).rstrip(".")}'
    ]


def _own_time(row: Mapping[str, Any]) -> float:
    """Return the seconds that a potential took for a structure alone; older reports do not tell them apart."""
    return (row.get('potential') or row.get('second_opinion') or {}).get('wall_time_s') or 0.0


def _merge(potential: Mapping[str, Any], row: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the facts of a run's potential with what it did to one structure; `steps` are those that it took."""
    if row is None:
        return None
    facts = {name: value for name, value in potential.items() if name != 'steps'}
    return {**facts, 'steps_max': potential['steps'], **row}
