"""The tables of an experiment: means and spreads over seeds, improvements, costs; as CSV and Markdown."""

from __future__ import annotations

import csv
import datetime
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aiida_e3relax.gnn.evaluation.evaluate import ALL_MEASURES, DUMMY, FRAMES, MOVABLE, Measured
from aiida_e3relax.gnn.evaluation.report import TITLES
from aiida_e3relax.gnn.experiments.plan import Experiment, Run
from aiida_e3relax.gnn.experiments.results import Result, read_measured, read_result

MATCH = 'match_rate_percent'


class Outcome:
    """A run that has ended, or not, with what is known of it.

    Attributes
    ----------
    run
        The run.
    result
        Its facts; None where it has not ended.
    measured
        What was measured on each split; nothing where it failed.
    """

    def __init__(self, run: Run):
        self.run = run
        self.result = Result(error=run.fault) if run.settings is None else read_result(run.folder)
        good = self.result is not None and not self.result.error
        self.measured: list[tuple[str, Measured]] = read_measured(run.folder) if good else []
        self.rows = [{'split': split, **m.row()} for split, m in self.measured]


def outcomes(experiment: Experiment) -> list[Outcome]:
    """Return what became of the runs of an experiment; the name of the model measured is that of its row."""
    return [Outcome(run) for run in experiment.runs]


def results_rows(found: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Return a row for each run, split and frame: measures and costs, or why there are none."""
    rows = []
    for outcome in found:
        start = {'data': outcome.run.data, 'of': outcome.run.variant, 'seed': outcome.run.seed}
        if outcome.result is None or outcome.result.error:
            rows.append(start | {'state': outcome.result.error if outcome.result else 'not done'})
            continue
        cost = costs(outcome.result)
        for row in outcome.rows:
            measures = {name: value for name, value in row.items() if name not in ('data', 'of')}
            rows.append(start | {'state': 'done', 'source': row['data']} | measures | cost)
    return rows


def costs(result: Result) -> dict[str, Any]:
    """Return what a run took: parameters, steps, hours, and ms a crystal for each size of a batch."""
    hours = {
        'training_h': None if result.training_s is None else result.training_s / 3600,
        'training_cpu_h': None if result.training_cpu_s is None else result.training_cpu_s / 3600,
    }
    spent = {
        f'inference_ms_batch_{size}': None if times is None else times['graph'] + times['forward']
        for size, times in result.inference_ms.items()
    }
    return {'parameters': result.parameters, 'steps': result.steps, **hours, **spent}


def table_rows(experiment: Experiment, found: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Return a row for each variant, after the Dummy's, on each data set, split and frame.

    Of each measure: mean over seeds, ``_spread`` (standard deviation of the sample; None for one seed), and for the
    means over crystals ``_improvement_percent`` over the best other variant, the Dummy left out.
    """
    rows = []
    for (data, split, source, frame), group in _groups(found).items():
        part = []
        for name in [DUMMY, *(variant.name for variant in experiment.variants)]:
            runs = [o for o in found if o.run.data == data and o.run.variant == name]
            seeds = group.get(name, [])
            failed = [o for o in runs if o.result is not None and o.result.error]
            row: dict[str, Any] = {'data': data, 'split': split, 'source': source, 'frame': frame, 'of': name}
            row |= {'pairs': seeds[0][1]['pairs'] if seeds else None, 'seeds': len(seeds), 'failed': len(failed)}
            row['reason'] = failed[0].result.error if failed and failed[0].result else ''
            row['pending'] = sum(o.result is None for o in runs)
            row |= _over_seeds([measures for _, measures in seeds])
            row |= _over_seeds([costs(o.result) for o, _ in seeds if o.result], spread=False)
            part.append(row)
        _add_improvements(part)
        rows += part
    return rows


def _groups(found: Sequence[Outcome]) -> dict[tuple[str, ...], dict[str, list[tuple[Outcome, dict[str, Any]]]]]:
    """Return what was measured by data set, split, source and frame, then by variant."""
    groups: dict[tuple[str, ...], dict[str, list[tuple[Outcome, dict[str, Any]]]]] = {}
    for outcome in found:
        for row in outcome.rows:
            key = (outcome.run.data, row['split'], row['data'], row['frame'])
            groups.setdefault(key, {}).setdefault(outcome.run.variant, []).append((outcome, row))
    order = {frame: place for place, frame in enumerate(FRAMES)}
    return dict(sorted(groups.items(), key=lambda item: (*item[0][:3], order[item[0][3]])))


def _over_seeds(rows: Sequence[Mapping[str, Any]], spread: bool = True) -> dict[str, Any]:
    """Return the mean of each number over the seeds, and its spread."""
    result: dict[str, Any] = {}
    for name in rows[0] if rows else ():
        values = [row[name] for row in rows if isinstance(row.get(name), int | float)]
        if name in ('failed', 'pairs') or not values:
            continue
        result[name] = float(np.mean(values))
        if spread:
            result[f'{name}_spread'] = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return result


def _add_improvements(rows: list[dict[str, Any]]) -> None:
    """Add to the variants of one table how much better each is than the best other one, in percent of that."""
    for name in [*(f'{measure}_mean' for measure in (*ALL_MEASURES, MOVABLE)), MATCH]:
        values = {row['of']: row[name] for row in rows if name in row and row['of'] != DUMMY}
        sign = 1 if name == MATCH else -1
        for row in rows:
            others = [value for other, value in values.items() if other != row['of']]
            if row['of'] not in values or not others:
                continue
            best = max(others, key=lambda value: sign * value)
            if best:
                row[f'{name}_improvement_percent'] = 100 * sign * (values[row['of']] - best) / best


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows, with a column for every name that one of them has."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    unfinished = path.with_name(f'.{path.name}.part')
    with unfinished.open('w', newline='', encoding='utf-8') as handle:
        writer = csv.DictWriter(handle, names, restval='')
        writer.writeheader()
        for row in rows:
            writer.writerow({name: f'{v:.6g}' if isinstance(v := row[name], float) else v for name in row})
    unfinished.replace(path)


def markdown(experiment: Experiment, found: Sequence[Outcome], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the tables as Markdown: the measures on each data set, split and frame, then what each model costs."""
    tables = list(dict.fromkeys((row['data'], row['split'], row['source'], row['frame']) for row in rows))
    text = []
    for key in tables:
        part = [row for row in rows if (row['data'], row['split'], row['source'], row['frame']) == key]
        text += [*_measures_table(experiment, key, part), '']
    for data in dict.fromkeys(run.data for run in experiment.runs):
        part = [row for row in rows if row['data'] == data and row['frame'] == FRAMES[-1] and row['of'] != DUMMY]
        once = {row['of']: row for row in reversed(part)}
        if once:
            text += [*_cost_table(data, list(reversed(once.values())), experiment.measurement.inference_batches), '']
    return '\n'.join([*text, *_remarks(experiment, found)]) + '\n'


def _measures_table(
    experiment: Experiment, key: tuple[str, str, str, str], rows: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    data, split, source, frame = key
    pairs = next((row['pairs'] for row in rows if row['pairs']), 0)
    of = data if source == data else f'{data} ({source})'
    names = [name for name in (*ALL_MEASURES, MOVABLE) if any(f'{name}_mean' in row for row in rows)]
    with_match = any(MATCH in row for row in rows)
    titles = [TITLES[name] for name in names] + (['match %'] if with_match else [])
    yield f'| {of}, {split} split, {pairs} pairs, {frame} | {" | ".join(titles)} |'
    yield f'|{"---|" * (len(titles) + 1)}'
    keys = [f'{name}_mean' for name in names] + ([MATCH] if with_match else [])
    best = {}
    for name in keys:
        values = [row[name] for row in rows if name in row and row['of'] != DUMMY]
        if len(values) > 1:
            best[name] = max(values) if name == MATCH else min(values)
    for row in rows:
        if not row['seeds']:
            state = f'failed: {_cell(row["reason"])}' if row['failed'] else 'not done'
            yield f'| {row["of"]}: {state} |{" |" * len(titles)}'
            continue
        cells = []
        for name in keys:
            if name not in row:
                cells.append('')
                continue
            digits = 1 if name == MATCH else None
            value = format_with_spread(row[name], row.get(f'{name}_spread'), digits)
            value = f'**{value}**' if row['of'] != DUMMY and best.get(name) == row[name] else value
            median = row.get(name.replace('_mean', '_median')) if name != MATCH else None
            cells.append(value if median is None else f'{value} ({format_with_spread(median, None)})')
        yield f'| {"Dummy" if row["of"] == DUMMY else row["of"]} | {" | ".join(cells)} |'
    reference = next((row for row in rows if row['of'] == experiment.reference), None)
    if reference and any(f'{name}_improvement_percent' in reference for name in keys):
        gains = [reference.get(f'{name}_improvement_percent') for name in keys]
        cells = ['' if gain is None else f'{gain:+.1f} %' for gain in gains]
        yield f'| {experiment.reference} against the best other | {" | ".join(cells)} |'


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


def _remarks(experiment: Experiment, found: Sequence[Outcome]) -> Iterator[str]:
    seeds = len({o.run.seed for o in found if o.run.variant != DUMMY})
    spread = ' ± standard deviation over the seeds' if seeds > 1 else ''
    yield (
        f'Mean over crystals{spread} (median over crystals). {seeds} seed{"s" if seeds > 1 else ""}. Dummy: the '
        'unrelaxed crystal itself. As filed: targets as their files have them; aligned: without rotation and drift.'
    )
    machines = {
        f'{o.result.machine.get("device")}, {o.result.machine.get("threads")} threads, torch '
        f'{o.result.machine.get("torch")}'
        for o in found
        if o.result and o.result.machine and o.run.variant != DUMMY
    }
    if machines:
        yield f'Measured {datetime.datetime.now().date()} on {"; ".join(sorted(machines))}.'
    faults = [f'{o.run.title}: {_cell(o.result.error)}' for o in found if o.result and o.result.error]
    pending = [o.run.title for o in found if o.result is None]
    for title, lines in (('Failed', faults), ('Not done', pending)):
        if lines:
            yield from ['', f'{title}:', '', *(f'- {line}' for line in lines)]


def _cell(text: str) -> str:
    return ' '.join(text.replace('|', '/').split())


def format_number(value: float) -> str:
    """Return a number with three significant digits, never as a power of ten above one."""
    return f'{value:.3g}' if abs(value) < 1000 else f'{value:.0f}'


def format_with_spread(value: float, spread: float | None, digits: int | None = None) -> str:
    """Return a number and its spread with as many decimals as three significant digits of the number take."""
    if digits is None:
        digits = max(0, 2 - int(np.floor(np.log10(abs(value))))) if value else 2
    return f'{value:.{digits}f}' + ('' if spread is None else f' ± {spread:.{digits}f}')
