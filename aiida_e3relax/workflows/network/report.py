"""Reading the output `report` of a run of the network: what it says of one structure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


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


def stated_energy_rise(report: Mapping[str, Any], label: str | None = None) -> float | None:
    """Return by how much a prediction lies above the raw crystal in energy, in eV/atom, by the second opinion on it.

    None where no potential was asked, or where it failed. Raises ValueError as `find_row` does.
    """
    opinion = find_row(report, label).get('second_opinion', {})
    if not opinion or 'error' in opinion:
        return None
    return opinion['energy_prediction_eV_per_atom'] - opinion['energy_input_eV_per_atom']


def network_facts(report: Mapping[str, Any], label: str | None = None) -> dict[str, Any]:
    """Return the facts on the prediction of a structure for the comparison.

    `wall_time_s` is its share of the time of the whole run, loading the checkpoint included, by the number of atoms.
    Raises ValueError as `find_row` does.
    """
    rows, row = report['structures'], find_row(report, label)
    share = row['n_atoms'] / sum(other['n_atoms'] or 0 for other in rows)  # None of what could not be read
    return {
        'content_hash': report['model']['content_hash'],
        'device': report['device']['used'],
        'structures_in_run': len(rows),
        'wall_time_s': share * report['timings_s']['total'],
        'uncertainty_A': stated_uncertainty(report, label),
        'second_opinion': {**report['second_opinion'], **row['second_opinion']} if 'second_opinion' in row else None,
    }
