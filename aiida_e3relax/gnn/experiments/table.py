"""The tables of an experiment: means and spreads over seeds, improvements, costs; as rows and CSV."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aiida_e3relax.gnn.evaluation.evaluate import ALL_MEASURES, DUMMY, FRAMES, MOVABLE, Measured
from aiida_e3relax.gnn.experiments.plan import Experiment, Measurement, Run
from aiida_e3relax.gnn.experiments.results import Result, read_measured, read_result

MATCH = 'match_rate_percent'
MEASURE_KEYS = (*(f'{measure}_mean' for measure in (*ALL_MEASURES, MOVABLE)), MATCH)
"""The columns of tables, of those that there may be."""

REFUSED = 'refused'
"""The column of crystals that a model refuses, which count as they came."""

ROUNDING = 1e-9
"""Errors below this, in A, A^2 or A^3, are rounding: a model that turns a fixed cell and turns it back has 1e-14."""


class Outcome:
    """A run that has ended, or not, with what is known of it.

    Attributes
    ----------
    run
        The run.
    result
        Its facts; None where it has not ended.
    measured
        What was measured on each of the splits that are asked for, without rounding; nothing where it failed.
    is_pending
        Whether something is still to be done.
    """

    def __init__(self, run: Run, measurement: Measurement):
        self.run = run
        self.result = Result(error=run.fault) if run.settings is None else read_result(run.folder)
        self.is_pending = self.result is None or not (self.result.error or self.result.covers(measurement))
        good = self.result is not None and not self.result.error
        self.measured: list[tuple[str, Measured]] = [
            (split, _without_rounding(m))
            for split, m in (read_measured(run.folder) if good else ())
            if split in measurement.splits
        ]
        self.rows = [{'split': split, **m.row()} for split, m in self.measured]


def _without_rounding(m: Measured) -> Measured:
    """Return what was measured with zero for errors that are `ROUNDING`."""
    values = {name: np.where(np.abs(errors) < ROUNDING, 0.0, errors) for name, errors in m.values.items()}
    return dataclasses.replace(m, values=values)


def outcomes(experiment: Experiment) -> list[Outcome]:
    """Return what became of the runs of an experiment; the name of the model measured is that of its row."""
    return [Outcome(run, experiment.measurement) for run in experiment.runs]


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
            measures = {
                REFUSED if name == 'failed' else name: value
                for name, value in row.items()
                if name not in ('data', 'of')
            }
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
            row[REFUSED] = max((measures['failed'] for _, measures in seeds), default=None)
            row['reason'] = failed[0].result.error if failed and failed[0].result else ''
            row['pending'] = sum(o.result is None for o in runs)
            row |= _over_seeds([measures for _, measures in seeds])
            row |= _over_seeds([costs(o.result) for o, _ in seeds if o.result], spread=False)
            part.append(row)
        add_improvements(part)
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
    """Return the mean of each number over the seeds that have it, and its spread."""
    result: dict[str, Any] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row[name] for row in rows if isinstance(row.get(name), int | float)]
        if name in ('failed', 'pairs') or not values:
            continue
        result[name] = float(np.mean(values))
        if spread:
            result[f'{name}_spread'] = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return result


def position_measure(names: Container[str]) -> str:
    """Return the measure of positions, of those with these `names`: of movable atoms alone where some are fixed."""
    return MOVABLE if MOVABLE in names else ALL_MEASURES[0]


def add_improvements(rows: Sequence[dict[str, Any]]) -> None:
    """Add to the variants of one table how much better each is than the best other one, in percent of that.

    Each row has ``of`` and some of `MEASURE_KEYS`; nothing is added where the best other one has no error at all.
    """
    for name in MEASURE_KEYS:
        values = {row['of']: row[name] for row in rows if name in row and row['of'] != DUMMY}
        sign = 1 if name == MATCH else -1
        for row in rows:
            others = [value for other, value in values.items() if other != row['of']]
            if row['of'] not in values or not others:
                continue
            best = max(others, key=lambda value: sign * value)
            if best:
                row[f'{name}_improvement_percent'] = 100 * sign * (values[row['of']] - best) / best


def improvement_cells(reference: str | None, rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[str]:
    """Return the cells of the line that says how much better a row is than the best other one; none without any.

    The first one is its title; the others are of these `keys` of the `rows`, to which `add_improvements` has added.
    """
    row = next((row for row in rows if row['of'] == reference), {})
    gains = [row.get(f'{name}_improvement_percent') for name in keys]
    if all(gain is None for gain in gains):
        return []
    return [
        f'{reference} against the best other',
        *('' if gain is None else f'{round(gain, 1) + 0.0:+.1f} %' for gain in gains),
    ]


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


def data_title(data: str, source: str) -> str:
    """Return what a table calls a data set: its file, and the source where that has another name."""
    return data if source == data else f'{data} ({source})'


def one_line(text: str) -> str:
    """Return `text` for the cell of a table."""
    return ' '.join(text.replace('|', '/').split())


def format_number(value: float) -> str:
    """Return a number with three significant digits, never as a power of ten above one."""
    return f'{value:.3g}' if abs(value) < 1000 else f'{value:.0f}'


def format_with_spread(value: float, spread: float | None, digits: int | None = None) -> str:
    """Return a number and its spread with as many decimals as three significant digits of the number take."""
    if digits is None:
        digits = max(0, 2 - int(np.floor(np.log10(abs(value))))) if value else 2
    return f'{value:.{digits}f}' + ('' if spread is None else f' ± {spread:.{digits}f}')
