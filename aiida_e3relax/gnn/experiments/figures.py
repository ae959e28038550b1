"""Figures of an experiment: means and costs, distributions over crystals, and what a sweep changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from adjustText import adjust_text
from numpy.typing import NDArray

from aiida_e3relax.common.figures import COLOURS, GREY, label_decades, matplotlib_figure
from aiida_e3relax.gnn.evaluation.evaluate import ALL_MEASURES, DUMMY, FRAMES, MEASURES, MOVABLE
from aiida_e3relax.gnn.experiments.plan import Experiment, value_text
from aiida_e3relax.gnn.experiments.table import Outcome, position_measure

LABELS = {
    'coordinate_mae_A': 'coordinates (A)',
    'cell_shape_deviation_A2': 'cell shape (A$^2$)',
    'volume_mae_A3': 'volume (A$^3$)',
    'bond_length_mae_A': 'bond lengths (A)',
    'lattice_mae_A': 'lattice (A)',
    MOVABLE: 'movable atoms (A)',
}
SMALLEST = 1e-3
"""Errors below this share of the median of those that are not zero stand at it: the axes are logarithmic."""

ErrorsByRow = Mapping[str, Mapping[str, NDArray[np.float64]]]

BINS = 36
ALIGNED = FRAMES[-1]


def draw_comparison(experiment: Experiment, rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the means of each row with their spread over seeds, in both frames, and what the rows cost.

    `rows` are those of one data set and split, of `table_rows`; `measures_of` these must be there.
    """
    measures = measures_of(rows)
    names = [row['of'] for row in rows if row['frame'] == ALIGNED and row['seeds']]
    costs = {row['of']: row for row in rows if row['frame'] == ALIGNED and row.get('training_cpu_h')}
    sizes = list(dict.fromkeys(n for row in costs.values() for n in row if n.startswith('inference_ms_batch_')))
    drawn = [('training_cpu_h', 'training (CPU h)'), *((s, _batch_title(s)) for s in sizes[:2])] if costs else []
    columns = max(len(measures), len(drawn), 2)
    figure = matplotlib_figure(4 * columns, 1.6 + 0.24 * len(names) + (3.0 if costs else 0))
    heights = [0.24 * len(names) + 1, 3.0] if costs else [1]
    grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
    first = None
    for column, name in enumerate(measures):
        axes = figure.add_subplot(grid[0, column], sharey=first)
        first = first or axes
        for frame, marker, fill in zip(FRAMES, 'so', ('none', 'full'), strict=True):
            part = {row['of']: row for row in rows if row['frame'] == frame and row['seeds']}
            for place, of in enumerate(names):
                if of in part:
                    value, spread = part[of][f'{name}_mean'], part[of].get(f'{name}_mean_spread')
                    colour = _colour(of, experiment)
                    axes.errorbar(
                        value, place, xerr=spread, fmt=marker, fillstyle=fill, color=colour, markersize=5, capsize=2
                    )
        axes.set(xlabel=f'mean error of {LABELS[name]}', yticks=range(len(names)), yticklabels=map(_name, names))
        axes.tick_params(labelleft=column == 0)
        axes.grid(alpha=0.3)
        axes.set(xlim=(0, 1.03 * axes.get_xlim()[1]), ylim=(len(names) - 0.4, -0.6))
    if costs:
        names_beside = []
        for column, (cost, title) in enumerate(drawn):
            axes = figure.add_subplot(grid[1, column])
            names_beside.append(_draw_costs(axes, experiment, costs, cost, measures[0]))
            axes.set(xlabel=title, ylabel=f'{LABELS[measures[0]]}, aligned' if column == 0 else '')
    key = [
        first.plot([], [], marker, fillstyle=fill, color='black', label=frame)[0]
        for frame, marker, fill in zip(FRAMES, 'so', ('none', 'full'), strict=True)
        if first is not None
    ]
    figure.legend(handles=key, loc='outside upper right', ncols=2, frameon=False)
    figure.suptitle(_title(rows[0]), x=0.01, ha='left', fontsize=10)
    if costs:
        figure.draw_without_rendering()  # where the axes are
        for texts in filter(None, names_beside):
            lines = {'arrowstyle': '-', 'color': GREY, 'linewidth': 0.5}
            adjust_text(texts, ax=texts[0].axes, arrowprops=lines, expand=(1.1, 1.3), max_move=None)
    figure.savefig(path, dpi=150)


def _draw_costs(
    axes: Any, experiment: Experiment, costs: Mapping[str, Mapping[str, Any]], cost: str, measure: str
) -> list[Any]:
    """Draw an error against a cost on a logarithmic axis, and return the names at the marks."""
    points = [(row[cost], row[f'{measure}_mean'], of) for of, row in costs.items() if cost in row]
    if not points:
        return []
    axes.set_xscale('log')
    for x, y, of in points:
        axes.plot(x, y, 'o', color=_colour(of, experiment), markersize=5)
    spent = [x for x, _, _ in points]
    axes.set_xlim(min(spent) / 1.5, max(spent) * 2.5)
    label_decades(axes.xaxis, *axes.get_xlim())
    axes.grid(alpha=0.3)
    axes.margins(y=0.15)
    return [axes.text(x, y, of, fontsize=7) for x, y, of in points]


def draw_violins(experiment: Experiment, values: ErrorsByRow, where: str, path: Path) -> None:
    """Draw the distribution of every measure over the crystals, one violin a row, all seeds together, aligned frame.

    `values` are `errors_by_row` with some `measures_in_errors`, `where` data set and split for the title.
    """
    measures = measures_in_errors(values)
    names = [of for of in [DUMMY, *(v.name for v in experiment.variants)] if of in values]
    figure = matplotlib_figure(max(7.0, 1.5 + 0.62 * len(names)), 2.1 * len(measures) + 0.8)
    grid = figure.subplots(len(measures), 1, sharex=True, squeeze=False)[:, 0]
    for axes, measure in zip(grid, measures, strict=True):
        pooled = _logarithms([values[of][measure] for of in names])
        parts = axes.violinplot(pooled, showextrema=False, widths=0.85, points=200)
        for body, of in zip(parts['bodies'], names, strict=True):
            body.set(facecolor=_colour(of, experiment), edgecolor='none', alpha=0.6)
        for place, logarithm in enumerate(pooled, start=1):
            low, middle, high = np.quantile(logarithm, [0.25, 0.5, 0.75])
            axes.vlines(place, low, high, color='black', linewidth=2.5)
            axes.plot(place, middle, 'o', color='white', markeredgecolor='black', markersize=4)
            axes.plot(place, np.log10(np.mean(10**logarithm)), '_', color='black', markersize=11, markeredgewidth=1.5)
        low, high = min(map(np.min, pooled)), max(map(np.max, pooled))
        ticks = _round_numbers(10**low, 10**high)
        axes.set_yticks(np.log10(ticks), [f'{tick:g}' for tick in ticks])
        axes.set(ylabel=LABELS[measure], ylim=(low - 0.1, high + 0.1))
        axes.grid(alpha=0.3, axis='y')
    grid[-1].set_xticks(range(1, len(names) + 1), map(_name, names), rotation=35, ha='right', rotation_mode='anchor')
    title = f'{where}, aligned: crystals; bar: middle half, ring: median, dash: mean'
    figure.suptitle(title, x=0.01, ha='left', fontsize=10)
    figure.savefig(path, dpi=150)


def draw_distributions(experiment: Experiment, values: ErrorsByRow, where: str, path: Path) -> None:
    """Draw the histogram of the error of positions of every row over that of the Dummy; see `draw_violins`."""
    measure = measures_in_errors(values)[0]
    names = [variant.name for variant in experiment.variants if variant.name in values]
    columns = min(3, max(len(names), 1))
    lines = -(-len(names) // columns)
    figure = matplotlib_figure(3.7 * columns, 1.9 * lines + 0.9)
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    logarithms = _logarithms([values[of][measure] for of in [DUMMY, *names]])
    low, high = min(map(np.min, logarithms)), max(map(np.max, logarithms))
    edges = 10 ** np.linspace(low, high + 1e-6, BINS)
    for axes, of, logarithm in zip(grid.flat, names, logarithms[1:], strict=False):
        for name, shown in ((DUMMY, logarithms[0]), (of, logarithm)):
            share = np.histogram(10**shown, edges)[0] / len(shown)
            axes.stairs(100 * share, edges, fill=name == DUMMY, color=_colour(name, experiment), alpha=_opacity(name))
            axes.axvline(10 ** np.mean(shown), color=_colour(name, experiment), linestyle='--', linewidth=1)
        axes.set_title(of, loc='left')
        axes.set(xscale='log', xlim=(edges[0], edges[-1]))
        label_decades(axes.xaxis, *axes.get_xlim())
        axes.grid(alpha=0.3)
    for axes in grid.flat[len(names) :]:
        axes.axis('off')
    for axes in grid[:, 0]:
        axes.set_ylabel('crystals (%)')
    for column in range(columns):
        drawn = [axes for place, axes in enumerate(grid[:, column]) if place * columns + column < len(names)]
        drawn[-1].tick_params(labelbottom=True)
        drawn[-1].set_xlabel(f'error of {LABELS[measure]}')
    title = f'{where}, aligned; filled: Dummy; dashed: geometric means'
    figure.suptitle(title, x=0.01, ha='left', fontsize=10)
    figure.savefig(path, dpi=150)


def draw_sweep(experiment: Experiment, rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the means over crystals against what was swept, a column for each name, spread over seeds as bars."""
    swept = list(dict.fromkeys(v.place[0] for v in experiment.variants if v.place))
    measures = measures_of(rows)
    figure = matplotlib_figure(max(6.0, 3.4 * len(swept)), 2.1 * len(measures) + 0.8)
    grid = figure.subplots(len(measures), len(swept), squeeze=False, sharex='col', sharey='row')
    for column, name in enumerate(swept):
        values = [v for v in experiment.variants if v.place and v.place[0] == name]
        places, ticks = axis_places([v.place[1] for v in values if v.place])
        for axes, measure in zip(grid[:, column], measures, strict=True):
            for frame, marker, style, colour in zip(FRAMES, 'so', ('--', '-'), (COLOURS[1], COLOURS[0]), strict=True):
                part = {row['of']: row for row in rows if row['frame'] == frame and row['seeds']}
                points = [
                    (x, part[v.name][f'{measure}_mean'], part[v.name].get(f'{measure}_mean_spread') or 0)
                    for x, v in zip(places, values, strict=True)
                    if v.name in part
                ]
                if points:
                    x, y, spread = zip(*sorted(points), strict=True)
                    axes.errorbar(
                        x, y, spread, marker=marker, linestyle=style, color=colour, markersize=4, capsize=2, label=frame
                    )
            axes.grid(alpha=0.3)
            axes.set_xticks(places, ticks)
        grid[-1, column].set_xlabel(name)
    for axes, measure in zip(grid[:, 0], measures, strict=True):
        axes.set_ylabel(LABELS[measure])
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc='outside upper right', ncols=2, frameon=False)
    figure.suptitle(_title(rows[0]), x=0.01, ha='left', fontsize=10)
    figure.savefig(path, dpi=150)


def axis_places(values: list[Any]) -> tuple[list[float], list[str]]:
    """Return where values stand on an axis: numbers where they are, all else one after the other."""
    texts = [value_text(value) for value in values]
    if all(type(value) in (int, float) for value in values):
        return [float(value) for value in values], texts
    return [float(place) for place in range(len(values))], texts


def errors_by_row(found: Sequence[Outcome], data: str, split: str) -> ErrorsByRow:
    """Return the errors of the crystals of one data set and split, by row and measure; all seeds, aligned frame."""
    chosen = [
        (outcome.run.variant, m.values)
        for outcome in found
        for of_split, m in outcome.measured
        if outcome.run.data == data and of_split == split and m.frame == ALIGNED
    ]
    some_fixed = any(MOVABLE in values for _, values in chosen)
    parts: dict[str, dict[str, list[NDArray[np.float64]]]] = {}
    for of, values in chosen:
        movable = {MOVABLE: values[position_measure(values)]} if some_fixed else {}  # without fixed atoms all are
        for name, errors in (values | movable).items():
            parts.setdefault(of, {}).setdefault(name, []).append(errors)
    return {of: {name: np.concatenate(some) for name, some in by.items()} for of, by in parts.items()}


def measures_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the measures that figures of means show, positions first: those that are not zero in all `rows`."""
    names = {name.removesuffix('_mean') for row in rows for name in row}
    shown = [position_measure(names), *MEASURES[1:]]
    return [name for name in shown if any(row.get(f'{name}_mean') for row in rows)]


def measures_in_errors(values: ErrorsByRow) -> list[str]:
    """Return the measures that figures of crystals show, positions first: those that are not zero for all crystals."""
    names = {name for by_measure in values.values() for name in by_measure}
    shown = [position_measure(names), *ALL_MEASURES[1:]]
    return [name for name in shown if any(np.nanmax(by_measure[name]) > 0 for by_measure in values.values())]


def _logarithms(values: list[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """Return the decimal logarithms of errors, of which some are above zero; NaN is left out.

    None is below `SMALLEST` times the median of those above zero.
    """
    finite = [part[np.isfinite(part)] for part in values]
    every = np.concatenate(finite)
    floor = max(SMALLEST * float(np.median(every[every > 0])), 1e-6)
    return [np.log10(np.maximum(part, floor)) for part in finite]


def _round_numbers(low: float, high: float) -> list[float]:
    """Return the round numbers from `low` to `high` that a logarithmic axis has as labels."""
    digits = (1, 2, 5) if high < 30 * low else (1, 3) if high < 300 * low else (1,)
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    return [number for d in decades for digit in digits if low <= (number := digit * 10.0**d) <= high]


def _name(of: str) -> str:
    return of.capitalize() if of == DUMMY else of


def _colour(of: str, experiment: Experiment) -> str:
    return GREY if of == DUMMY else COLOURS[0] if of == experiment.reference else COLOURS[1]


def _opacity(of: str) -> float:
    return 0.5 if of == DUMMY else 1.0


def _batch_title(name: str) -> str:
    return f'inference (ms a crystal, batch of {name.rpartition("_")[2]})'


def _title(row: Mapping[str, Any]) -> str:
    of = row['data'] if row['source'] == row['data'] else f'{row["data"]} ({row["source"]})'
    return f'{of}, {row["split"]} split'
