"""The tables of an experiment as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aiida_e3relax.gnn.evaluation.evaluate import DUMMY, FRAMES
from aiida_e3relax.gnn.evaluation.report import TITLES
from aiida_e3relax.gnn.experiments.plan import Experiment
from aiida_e3relax.gnn.experiments.remarks import remarks
from aiida_e3relax.gnn.experiments.table import (
    MATCH,
    MEASURE_KEYS,
    Outcome,
    data_title,
    format_number,
    format_with_spread,
    improvement_cells,
    one_line,
)


def markdown(experiment: Experiment, found: Sequence[Outcome], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the tables as Markdown: the measures on each data set, split and frame, then what each model costs."""
    tables = list(dict.fromkeys((row['data'], row['split'], row['source'], row['frame']) for row in rows))
    text = []
    for key in tables:
        part = [row for row in rows if (row['data'], row['split'], row['source'], row['frame']) == key]
        text += [*_measures_table(experiment.reference, key, part), '']
    for data in dict.fromkeys(run.data for run in experiment.runs):
        part = [row for row in rows if row['data'] == data and row['frame'] == FRAMES[-1] and row['of'] != DUMMY]
        once = {row['of']: row for row in reversed(part)}
        if once:
            text += [*_cost_table(data, list(reversed(once.values())), experiment.measurement.inference_batches), '']
    return '\n'.join([*text, *remarks(experiment, found)]) + '\n'


def _measures_table(
    reference: str | None, key: tuple[str, str, str, str], rows: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    data, split, source, frame = key
    pairs = next((row['pairs'] for row in rows if row['pairs']), 0)
    of = data_title(data, source)
    keys = [name for name in MEASURE_KEYS if any(name in row for row in rows)]
    titles = [measure_title(name) for name in keys]
    yield f'| {of}, {split} split, {pairs} pairs, {frame} | {" | ".join(titles)} |'
    yield f'|{"---|" * (len(titles) + 1)}'
    best = {name: _best(name, rows) for name in keys}
    for row in rows:
        if not row['seeds']:
            state = f'failed: {one_line(row["reason"])}' if row['failed'] else 'not done'
            yield f'| {row["of"]}: {state} |{" |" * len(titles)}'
            continue
        cells = [_measure_cell(row, name, best[name]) for name in keys]
        yield f'| {"Dummy" if row["of"] == DUMMY else row["of"]} | {" | ".join(cells)} |'
    if cells := improvement_cells(reference, rows, keys):
        yield f'| {" | ".join(cells)} |'


def measure_title(key: str) -> str:
    """Return the title of a column of `MEASURE_KEYS`."""
    return 'match %' if key == MATCH else TITLES[key.removesuffix('_mean')]


def _best(name: str, rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the best value of a column; None where all models are equal, or only one is there."""
    values = {row[name] for row in rows if name in row and row['of'] != DUMMY}
    if len(values) < 2:
        return None
    return max(values) if name == MATCH else min(values)


def _measure_cell(row: Mapping[str, Any], name: str, best: float | None) -> str:
    if name not in row:
        return ''
    value = format_with_spread(row[name], row.get(f'{name}_spread'), 1 if name == MATCH else None)
    if row['of'] != DUMMY and row[name] == best:
        value = f'**{value}**'
    median = row.get(name.replace('_mean', '_median')) if name != MATCH else None
    return value if median is None else f'{value} ({format_with_spread(median, None)})'


def _cost_table(data: str, rows: Sequence[Mapping[str, Any]], sizes: Sequence[int]) -> Iterator[str]:
    batches = [f'inference_ms_batch_{size}' for size in sizes]
    titles = ['parameters', 'steps', 'training h', 'CPU h', 'seeds']
    titles += [f'ms a crystal, batch of {name.rpartition("_")[2]}' for name in batches]
    yield f'| {data}: cost | {" | ".join(titles)} |'
    yield f'|{"---|" * (len(titles) + 1)}'
    for row in rows:
        if not row['seeds']:
            yield f'| {row["of"]} |{" |" * len(titles)}'
            continue
        cells = [f'{row["parameters"]:,.0f}', f'{row["steps"]:,.0f}']
        cells += [format_number(row[name]) if name in row else '' for name in ('training_h', 'training_cpu_h')]
        cells += [f'{row["seeds"]}', *(format_number(row[name]) if name in row else 'no memory' for name in batches)]
        yield f'| {row["of"]} | {" | ".join(cells)} |'
