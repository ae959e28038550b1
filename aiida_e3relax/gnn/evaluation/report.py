"""Measurements as tables: text, JSON, and one CSV line a structure; by element and by size."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.common.output_files import whole_file
from aiida_e3relax.gnn.evaluation.evaluate import ALL_MEASURES, GROUPS, MOVABLE, Measured

SIZE_EDGES = (1, 5, 9, 17, 33, 65)
"""Sizes at which a new class of `by_size` begins; the last has no end."""

TITLES = {
    'coordinate_mae_A': 'coordinates A',
    'cell_shape_deviation_A2': 'cell shape A^2',
    'volume_mae_A3': 'volume A^3',
    'bond_length_mae_A': 'bonds A',
    'lattice_mae_A': 'lattice A',
    MOVABLE: 'movable atoms A',
}
"""Of the measures in tables."""

_CALIBRATION_TITLES = {
    'uncertainty_A_median': 'uncertainty A',
    'spearman_coordinates': 'rank, coordinates',
    'spearman_bonds': 'rank, bonds',
    'observed_over_stated_median': 'bond error / it',
}

_DISTANCE_TITLES = {
    'distance_median': 'distance',
    'unlike_training_percent': 'unlike %',
    'spearman_distance_bonds': 'rank, distance',
}


def measures_in(names: Iterable[str]) -> list[str]:
    """Return the measures that tables show, of those with these `names` in a row or in `Measured.values`."""
    known = set(names)
    return [*ALL_MEASURES, *([MOVABLE] if known & {MOVABLE, f'{MOVABLE}_mean'} else [])]


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows of `Measured.row` as text: mean (median) of each measure, and calibration of the uncertainties."""
    width = max(len(row['of']) for row in rows)
    head = f'{"data":<14}{"frame":<10}{"":<{width}} {"pairs":>6}'
    measures = measures_in(name for row in rows for name in row)
    lines = [head + ''.join(f'  {TITLES[name]:>17}' for name in measures) + f'  {"match %":>8}']
    for row in rows:
        cells = [f'{row[f"{m}_mean"]:.3f} ({row[f"{m}_median"]:.3f})' if f'{m}_mean' in row else '-' for m in measures]
        match = f'{row["match_rate_percent"]:8.1f}' if 'match_rate_percent' in row else f'{"-":>8}'
        start = f'{row["data"]:<14}{row["frame"]:<10}{row["of"]:<{width}} {row["pairs"]:>6}'
        lines.append(start + ''.join(f'  {c:>17}' for c in cells) + f'  {match}')
    lines.append('mean (median) over pairs; dummy: the unrelaxed crystal itself')
    return '\n'.join([*lines, *_uncertainty_lines(rows)])


def _uncertainty_lines(rows: Sequence[Mapping[str, Any]], by: str = 'data', wide: int = 14) -> list[str]:
    """Return the table of the models that state an uncertainty or a distance, in the aligned frame, if any does.

    `by` is the key that names rows, `wide` the width of its column.
    """
    titles = _CALIBRATION_TITLES | _DISTANCE_TITLES
    stating = [row for row in rows if titles.keys() & row.keys() and row['frame'] == 'aligned']
    if not stating:
        return []
    titles = {name: title for name, title in titles.items() if any(name in row for row in stating)}
    width = max(len(row['of']) for row in stating)
    lines = ['', f'{by:<{wide}}{"":<{width}}' + ''.join(f'  {title:>18}' for title in titles.values())]
    for row in stating:
        cells = ['-' if row.get(name) is None else f'{row[name]:.3f}' for name in titles]
        lines.append(f'{row[by]:<{wide}}{row["of"]:<{width}}' + ''.join(f'  {cell:>18}' for cell in cells))
    told = "aligned frame; rank: Spearman's correlation of the uncertainty with that error"
    more = ', of the distance with that of bonds; distance: to the training, above 1 unlike it'
    return [*lines, told + (more if 'distance_median' in titles else '')]


def by_size(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """Return rows of means and medians for classes of crystals of like numbers of atoms."""
    rows = []
    for m in measured:
        classes = np.searchsorted(SIZE_EDGES, m.n_atoms, side='right') - 1
        for k in np.unique(classes):
            last = SIZE_EDGES[k + 1] - 1 if k + 1 < len(SIZE_EDGES) else None
            rows.append(_row_of_some(m, {'atoms': size_name(SIZE_EDGES[k], last)}, classes == k))
    return rows


def by_group(measured: Sequence[Measured], group: str) -> list[dict[str, Any]]:
    """Return rows of means and medians for the names of one of `GROUPS`; pairs without one are left out."""
    return [
        _row_of_some(m, {group: name}, m.groups[group] == name)
        for m in measured
        if group in m.groups
        for name in np.unique(m.groups[group]).tolist()
        if name
    ]


def _row_of_some(m: Measured, named: Mapping[str, str], chosen: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the row of the `chosen` structures, with what they are `named`."""
    row: dict[str, Any] = {'data': m.data, 'frame': m.frame, 'of': m.of, **named, 'pairs': int(chosen.sum())}
    for name, values in m.values.items():
        row[f'{name}_mean'] = float(np.nanmean(values[chosen]))
        row[f'{name}_median'] = float(np.nanmedian(values[chosen]))
    calibration = m.calibration_of(chosen)
    return row if calibration is None else row | calibration.row()


def group_table(measured: Sequence[Measured], group: str) -> str:
    """Return the rows `by_group` in the aligned frame as text, empty where no pair has one: mean (median)."""
    rows = by_group([m for m in measured if m.frame == 'aligned'], group)
    if not rows:
        return ''
    width = max(len(row['of']) for row in rows)
    measures = measures_in(name for row in rows for name in row)
    lines = [f'{group:<16}{"":<{width}} {"pairs":>6}' + ''.join(f'  {TITLES[name]:>17}' for name in measures)]
    for row in sorted(rows, key=lambda row: row[group]):
        cells = [f'{row[f"{m}_mean"]:.3f} ({row[f"{m}_median"]:.3f})' if f'{m}_mean' in row else '-' for m in measures]
        lines.append(f'{row[group]:<16}{row["of"]:<{width}} {row["pairs"]:>6}' + ''.join(f'  {c:>17}' for c in cells))
    return '\n'.join([*lines, *_uncertainty_lines(sorted(rows, key=lambda row: row[group]), group, 16)])


def size_name(first: int, last: int | None) -> str:
    """Return the name of a class of sizes, such as ``5-8``."""
    return f'{first}+' if last is None else f'{first}-{last}'


def by_element(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """Return, for each element, the mean and the median of the coordinate errors of its atoms, in A."""
    from ase.data import chemical_symbols

    rows = []
    for m in measured:
        for number in np.unique(m.numbers):
            errors = m.atom_errors[m.numbers == number]
            row = {'data': m.data, 'frame': m.frame, 'of': m.of, 'element': chemical_symbols[number]}
            rows.append(
                row
                | {
                    'atoms': len(errors),
                    'coordinate_mae_A_mean': float(errors.mean()),
                    'coordinate_mae_A_median': float(np.median(errors)),
                }
            )
    return rows


def write_json(path: Path, measured: Sequence[Measured], facts: Mapping[str, Any]) -> None:
    """Write all tables, after the `facts` of the evaluation."""
    content = {
        **facts,
        'rows': [m.row() for m in measured],
        'by_size': by_size(measured),
        'by_element': by_element(measured),
        **{f'by_{group}': rows for group in GROUPS if (rows := by_group(measured, group))},
    }
    with whole_file(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + '\n', encoding='utf-8')


def write_csv(path: Path, measured: Sequence[Measured]) -> None:
    """Write one line a structure, frame and model."""
    with whole_file(path) as partial, partial.open('w', newline='', encoding='utf-8') as handle:
        writer = csv.writer(handle)
        measures = measures_in(name for m in measured for name in m.values)
        groups = [group for group in GROUPS if any(group in m.groups for m in measured)]
        distance = ['distance_to_training'] if any(m.distance is not None for m in measured) else []
        named = ['data', 'label', 'atoms', 'frame', 'of']
        writer.writerow([*named, *measures, 'matched', 'failed', 'uncertainty_A', *distance, *groups])
        for m in measured:
            for i, label in enumerate(m.labels):
                matched = '' if m.matched is None else int(m.matched[i])
                values = [f'{m.values[name][i]:.6g}' if name in m.values else '' for name in measures]
                stated = '' if m.uncertainty is None else f'{m.uncertainty[i]:.6g}'
                told = [stated, *('' if m.distance is None else f'{m.distance[i]:.6g}' for _ in distance)]
                of_groups = [m.groups[group][i] if group in m.groups else '' for group in groups]
                writer.writerow(
                    [m.data, label, m.n_atoms[i], m.frame, m.of, *values, matched, int(m.failed[i]), *told, *of_groups]
                )
