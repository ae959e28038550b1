"""Measurements in one figure: distributions of models and Dummy, errors by size, by uncertainty and by element."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aiida_e3relax.common.figures import COLOURS, GREY, draw_periodic_table, label_decades, matplotlib_figure
from aiida_e3relax.gnn.evaluation.evaluate import DUMMY, MEASURES, Measured
from aiida_e3relax.gnn.evaluation.report import by_element, by_size

_AXES = ('coordinate error (A)', 'cell shape deviation (A^2)', 'volume error (A^3)')

SMALLEST = 1e-6
"""Errors below this stand at it: the axes are logarithmic."""
FEW = 200
"""Up to so many crystals have larger dots."""


def plot_measured(measured: Sequence[Measured], path: Path) -> None:
    """Write the figure of what was measured to `path`; needs matplotlib.

    Only the aligned frame is drawn, each data set in a row of its own, and the map of elements for the first model.
    Where models state an uncertainty, the errors found are drawn against it.
    """
    drawn = [m for m in measured if m.frame == 'aligned']
    sources = list(dict.fromkeys(m.data for m in drawn))
    stating = [source for source in sources if any(m.data == source and m.calibration for m in drawn)]
    rows = len(sources) + 1 + -(-len(stating) // 3)
    figure = matplotlib_figure(11, 2.6 * rows + 3.9)
    grid = figure.add_gridspec(rows + 1, 3, height_ratios=[1] * rows + [1.6])
    for row, source in enumerate(sources):
        of_source = [m for m in drawn if m.data == source]
        for column, (name, label) in enumerate(zip(MEASURES, _AXES, strict=True)):
            axes = figure.add_subplot(grid[row, column])
            _draw_distribution(axes, of_source, name)
            axes.set(xlabel=label, ylabel='share of pairs below' if column == 0 else '')
            if column == 0:
                axes.set_title(f'{source}, {len(of_source[0].labels)} pairs', loc='left')
    for column, (name, label) in enumerate(zip(MEASURES, _AXES, strict=True)):
        axes = figure.add_subplot(grid[len(sources), column])
        _draw_by_size(axes, drawn, name)
        axes.set(xlabel='atoms a cell', ylabel=f'median {label}'.replace(' (', '\n('))
    for place, source in enumerate(stating):
        axes = figure.add_subplot(grid[len(sources) + 1 + place // 3, place % 3])
        _draw_calibration(axes, [m for m in drawn if m.data == source])
        axes.set_title(source, loc='left')
    table = figure.add_subplot(grid[rows, :])
    model = next(m.of for m in drawn)
    draw_periodic_table(table, _element_means(drawn, model), f'mean coordinate error of {model} (A)', logarithmic=True)
    curves, names = figure.axes[0].get_legend_handles_labels()
    title = 'aligned frame: rotation and drift of the target removed'
    figure.legend(curves, names, title=title, loc='outside upper center', ncols=4, frameon=False)
    figure.savefig(path, dpi=150)


def _draw_distribution(axes: Any, measured: Sequence[Measured], name: str) -> None:
    """Draw the cumulative distribution of a measure on a logarithmic axis, one curve a model."""
    positive = np.concatenate([m.values[name] for m in measured])
    floor = max(np.quantile(positive, 0.02), 1e-3 * np.median(positive), SMALLEST)
    for m in measured:
        values = np.sort(np.maximum(m.values[name], floor))
        axes.step(values, np.arange(1, len(values) + 1) / len(values), where='post', label=m.of, **_style(m, measured))
    axes.set(xscale='log', ylim=(0, 1), xlim=(floor, max(positive.max(), 2 * floor)))
    label_decades(axes.xaxis, *axes.get_xlim())
    axes.grid(alpha=0.3)


def _draw_by_size(axes: Any, measured: Sequence[Measured], name: str) -> None:
    """Draw the median of a measure against the size of the cell: models as lines with marks, Dummies without."""
    sources = list(dict.fromkeys(m.data for m in measured))
    for m in measured:
        rows = by_size([m])
        positions = [_middle(row['atoms']) for row in rows]
        style = _style(m, [x for x in measured if x.data == m.data])
        mark = ('o', 's', '^', 'D')[sources.index(m.data) % 4]
        medians = [max(row[f'{name}_median'], SMALLEST) for row in rows]
        axes.plot(positions, medians, marker=mark, markersize=4, **style)
    for source, mark in zip(sources, ('o', 's', '^', 'D'), strict=False):
        axes.plot([], [], mark, color='black', markersize=4, label=source)
    axes.set(xscale='log', yscale='log')
    axes.set_xticks([2, 4, 8, 16, 32, 64], ['2', '4', '8', '16', '32', '64'], minor=False)
    label_decades(axes.yaxis, *axes.get_ylim())
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=7)


def _draw_calibration(axes: Any, measured: Sequence[Measured]) -> None:
    """Draw bond errors against stated uncertainties: crystals as dots, bins as medians with the middle half."""
    for m in measured:
        if (found := m.calibration) is None:
            continue
        colour = _style(m, measured)['color']
        stated, errors = np.maximum(found.stated, SMALLEST), np.maximum(found.bond_error, SMALLEST)
        axes.scatter(stated, errors, s=3 if len(stated) > FEW else 10, color=colour, alpha=0.3, linewidth=0)
        middle, (lower, median, upper) = (np.maximum(values, SMALLEST) for values in found.binned())
        correlation = found.row()['spearman_bonds']
        label = m.of if correlation is None else f'{m.of}, ranks {correlation:.2f}'
        bars = np.array([median - lower, upper - median])
        axes.errorbar(middle, median, bars, fmt='o-', markersize=4, linewidth=1, capsize=2, color=colour, label=label)
    axes.set(xscale='log', yscale='log', xlabel='stated uncertainty (A)', ylabel='error of bond lengths (A)')
    label_decades(axes.xaxis, *axes.get_xlim())
    label_decades(axes.yaxis, *axes.get_ylim())
    axes.plot(axes.get_xlim(), axes.get_xlim(), '--', color=GREY, linewidth=1, scalex=False, scaley=False)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=7, loc='upper left')


def _middle(name: str) -> float:
    """Return the geometric mean of the sizes of a class such as ``5-8`` or ``65+``."""
    first, _, last = name.partition('-')
    return float(np.sqrt(int(first) * int(last))) if last else float(first.rstrip('+')) * 1.2


def _style(measured: Measured, beside: Sequence[Measured]) -> dict[str, Any]:
    if measured.of == DUMMY:
        return {'color': GREY}
    models = [m.of for m in beside if not m.of.startswith(DUMMY)]
    name = measured.of.removeprefix(f'{DUMMY} at volume of ')
    colour = COLOURS[models.index(name) % len(COLOURS)]
    return {'color': colour, 'linestyle': '-' if measured.of == name else ':'}


def _element_means(measured: Sequence[Measured], model: str) -> dict[str, float]:
    """Return the mean coordinate error of each element's atoms over all data sets, in A."""
    rows = [row for row in by_element(measured) if row['of'] == model]
    symbols = {row['element'] for row in rows}
    return {
        symbol: float(
            np.average(
                [row['coordinate_mae_A_mean'] for row in rows if row['element'] == symbol],
                weights=[row['atoms'] for row in rows if row['element'] == symbol],
            )
        )
        for symbol in symbols
    }
