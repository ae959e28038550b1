"""The tables of docs/experiments.md, from what several runs of `e3relax benchmark`, `ablate` or `sweep` measured.

    python benchmarks/combine_tables.py docs/examples/tables/pnictides.csv [results.csv ...] --reference e3relax-h2

Each file is a `results.csv`. Of a row and seed that stands in several the last one counts. Machines and folders may
differ, data, steps and sizes must not: that is for you to see to. Prints Markdown: mean over crystals ± standard
deviation over seeds (median over crystals), match rates, and what trainings and predictions took, each over the seeds
that have it. With `--reference ROW` the improvement of that row over the best other one stands below each table. With
`--output FILE` all rows are written there, too.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from aiida_e3relax.gnn.evaluation.evaluate import DUMMY, FRAMES
from aiida_e3relax.gnn.experiments.markdown import measure_title
from aiida_e3relax.gnn.experiments.table import (
    MATCH,
    MEASURE_KEYS,
    ROUNDING,
    add_improvements,
    data_title,
    format_number,
    format_with_spread,
    improvement_cells,
)

KEY = ['data', 'source', 'split', 'frame', 'of', 'seed']
INFERENCE = 'inference_ms_batch_'


def read_results(files: list[Path]) -> pd.DataFrame:
    """Return what has been measured, a row for each run, split and frame; raises ValueError where pairs differ."""
    rows = pd.concat([pd.read_csv(file) for file in files], ignore_index=True)
    rows = rows[rows['state'] == 'done'].astype({'pairs': int})
    rows['source'] = rows['source'].fillna(rows['data']) if 'source' in rows else rows['data']
    place = {of: place for place, of in enumerate(rows['of'].unique())} | {DUMMY: -1}
    rows = rows.drop_duplicates(KEY, keep='last').sort_values('of', key=lambda of: of.map(place), kind='stable')
    for (data, _, split), part in rows.groupby(['data', 'source', 'split']):
        if part['pairs'].nunique() > 1:
            raise ValueError(f'{data}, {split}: expected the same pairs in all rows, found {part["pairs"].unique()}')
    errors = [key.replace('_mean', end) for key in MEASURE_KEYS if key != MATCH for end in ('_mean', '_median')]
    for name in rows.columns.intersection(errors):
        rows[name] = rows[name].mask(rows[name].abs() < ROUNDING, 0.0)
    return rows


def format_measures(rows: pd.DataFrame, reference: str | None = None) -> Iterator[str]:
    """Yield a table of measures for each data set, source, split and frame; `reference` is compared with the others."""
    for (data, source, split, pairs), part in rows.groupby(['data', 'source', 'split', 'pairs'], sort=False):
        of_data = data_title(data, source)
        for frame in reversed(FRAMES):
            of_frame = part[part['frame'] == frame].dropna(axis='columns', how='all')
            if of_frame.empty:
                continue
            keys = [key for key in MEASURE_KEYS if key in of_frame]
            titles = ' | '.join(map(measure_title, keys))
            yield f'| {of_data}, {split} split, {pairs:,} pairs, {frame} | seeds | {titles} |'
            yield f'|{"---|" * (len(keys) + 2)}'
            means: list[dict[str, Any]] = []
            for of, seeds in of_frame.groupby('of', sort=False):
                cells = [_format_cell(seeds, key) for key in keys]
                count = '' if of == DUMMY else len(seeds)
                yield f'| {"Dummy" if of == DUMMY else of} | {count} | {" | ".join(cells)} |'
                means.append({'of': of, **seeds[keys].mean().dropna()})
            add_improvements(means)
            if cells := improvement_cells(reference, means, keys):
                yield f'| {cells[0]} |  | {" | ".join(cells[1:])} |'
            yield ''


def _format_cell(seeds: pd.DataFrame, key: str) -> str:
    """Return the cell of a measure, of the seeds that have it."""
    values = seeds[key].dropna()
    if values.empty:
        return ''
    spread = values.std() if len(values) > 1 else None
    text = format_with_spread(values.mean(), spread, 1 if key == MATCH else None)
    return (
        text if key == MATCH else f'{text} ({format_with_spread(seeds[key.replace("_mean", "_median")].mean(), None)})'
    )


def format_costs(rows: pd.DataFrame) -> Iterator[str]:
    """Yield a table of what each model costs on each data set, as far as that is known."""
    sizes = sorted(int(name.removeprefix(INFERENCE)) for name in rows if name.startswith(INFERENCE))
    titles = {
        'parameters': 'parameters',
        'training_cpu_h': 'hours of one core, training',
        'training_h': 'hours by the clock, training',
        **{f'{INFERENCE}{size}': f'ms a crystal, batch of {size}' for size in sizes},
    }
    for data, part in rows[rows['of'] != DUMMY].groupby('data', sort=False):
        keys = [name for name in titles if name in part and part[name].notna().any()]
        if not keys:
            continue
        yield f'| {data}: cost | {" | ".join(titles[key] for key in keys)} |'
        yield f'|{"---|" * (len(keys) + 1)}'
        for of, seeds in part.groupby('of', sort=False):
            means = seeds.drop_duplicates('seed')[keys].mean()
            cells = [f'{means[k]:,.0f}' if k == 'parameters' else format_number(means[k]) for k in keys]
            yield f'| {of} | {" | ".join("" if cell == "nan" else cell for cell in cells)} |'
        yield ''


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('files', nargs='+', type=Path)
    parser.add_argument('--reference', metavar='ROW')
    parser.add_argument('--output', type=Path)
    given = parser.parse_args()
    rows = read_results(given.files)
    if given.reference is not None and given.reference not in set(rows['of']):
        parser.error(f'--reference {given.reference}: expected one of {", ".join(rows["of"].unique())}')
    if given.output:
        rows.to_csv(given.output, index=False, float_format='%.6g')
    print('\n'.join([*format_measures(rows, given.reference), *format_costs(rows)]))


if __name__ == '__main__':
    main()
