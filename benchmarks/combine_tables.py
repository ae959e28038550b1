"""The tables of docs/experiments.md, from what several runs of `e3relax benchmark`, `ablate` or `sweep` measured.

    python benchmarks/combine_tables.py docs/examples/tables/pnictides.csv [results.csv ...]

Each file is a `results.csv`. Of a row and seed that stands in several the last one counts. Machines and folders may
differ, data, steps and sizes must not: that is for you to see to. Prints Markdown: mean over crystals ± standard
deviation over seeds (median over crystals), and what a training took. With `--output FILE` all rows are written
there, too.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from aiida_e3relax.gnn.evaluation.evaluate import ALL_MEASURES, DUMMY, FRAMES
from aiida_e3relax.gnn.evaluation.report import TITLES
from aiida_e3relax.gnn.experiments.table import format_number, format_with_spread

KEY = ['data', 'split', 'frame', 'of', 'seed']


def read_results(files: list[Path]) -> pd.DataFrame:
    """Return what has been measured, a row for each run, split and frame; raises ValueError where pairs differ."""
    rows = pd.concat([pd.read_csv(file) for file in files], ignore_index=True)
    rows = rows[rows['state'] == 'done'].astype({'pairs': int})
    place = {of: place for place, of in enumerate(rows['of'].unique())} | {DUMMY: -1}
    rows = rows.drop_duplicates(KEY, keep='last').sort_values('of', key=lambda of: of.map(place), kind='stable')
    for (data, split), part in rows.groupby(['data', 'split']):
        if part['pairs'].nunique() > 1:
            raise ValueError(f'{data}, {split}: expected the same pairs in all rows, found {part["pairs"].unique()}')
    return rows


def format_measures(rows: pd.DataFrame) -> Iterator[str]:
    """Yield a table of measures for each data set, split and frame."""
    names = [name for name in ALL_MEASURES if f'{name}_mean' in rows]
    for (data, split, pairs), part in rows.groupby(['data', 'split', 'pairs'], sort=False):
        for frame in reversed(FRAMES):
            of_frame = part[part['frame'] == frame]
            if of_frame.empty:
                continue
            titles = ' | '.join(TITLES[name] for name in names)
            yield f'| {data}, {split} split, {pairs:,} pairs, {frame} | seeds | {titles} |'
            yield f'|{"---|" * (len(names) + 2)}'
            for of, seeds in of_frame.groupby('of', sort=False):
                cells = [_format_cell(seeds[f'{name}_mean'], seeds[f'{name}_median']) for name in names]
                count = '' if of == DUMMY else len(seeds)
                yield f'| {"Dummy" if of == DUMMY else of} | {count} | {" | ".join(cells)} |'
            yield ''


def _format_cell(means: pd.Series, medians: pd.Series) -> str:
    spread = means.std() if len(means) > 1 else None
    return f'{format_with_spread(means.mean(), spread)} ({format_with_spread(medians.mean(), None)})'


def format_costs(rows: pd.DataFrame) -> Iterator[str]:
    """Yield a table of what each model costs on each data set, where that is known."""
    for data, part in rows[rows['of'] != DUMMY].groupby('data', sort=False):
        yield f'| {data}: cost | parameters | hours of one core, training |'
        yield '|---|---|---|'
        for of, seeds in part.drop_duplicates(['of', 'seed']).groupby('of', sort=False):
            hours = format_number(seeds['training_cpu_h'].mean())
            yield f'| {of} | {seeds["parameters"].iloc[0]:,.0f} | {hours} |'
        yield ''


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('files', nargs='+', type=Path)
    parser.add_argument('--output', type=Path)
    given = parser.parse_args()
    rows = read_results(given.files)
    if given.output:
        rows.to_csv(given.output, index=False, float_format='%.6g')
    print('\n'.join([*format_measures(rows), *(format_costs(rows) if 'training_cpu_h' in rows else ())]))


if __name__ == '__main__':
    main()
