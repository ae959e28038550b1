"""The figures of a campaign for print, drawn with matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aiida_e3relax.campaign.results.arms import RAW as RAW_START
from aiida_e3relax.campaign.results.arms import ArmsComparison
from aiida_e3relax.campaign.results.estimates import Values, column_values
from aiida_e3relax.campaign.results.outcomes import OUTCOMES, find_outcomes, pair_costs
from aiida_e3relax.campaign.results.statistics import GroupSaving, Summary
from aiida_e3relax.campaign.results.table import LEGS
from aiida_e3relax.common.figures import COLOURS, GREY, label_decades, matplotlib_figure

RAW, PREDICTED, RELAXED = COLOURS[1], COLOURS[0], COLOURS[2]
FORMATS = ('png', 'pdf')
GEOMETRY = (
    ('start_coordinate_mae_A', 'coordinate error (Å)'),
    ('start_cell_shape_deviation_A2', 'cell shape deviation (Å$^2$)'),
    ('start_volume_error_A3', 'volume error (Å$^3$)'),
)
SMALLEST = 1e-4
"""Errors below this stand at it where an axis is logarithmic."""
FEW = 40
"""Up to as many structures are drawn one by one."""
IN_A_LINE = 30
"""As many elements stand beside each other, or their numbers would run into one another."""


def draw_figures(frame: pd.DataFrame, summary: Summary, folder: Path) -> list[Path]:
    """Write every figure that the table of a campaign has something for into `folder`, as PNG and PDF.

    Returns
    -------
    list of Path
        The files, by figure.
    """
    both = frame[(find_outcomes(frame) == 'compared') & frame['in_sample'].astype(bool)]
    note = describe_stand_in(summary.engines)
    drawings: dict[str, Callable[[], Any]] = {}
    if len(frame):
        drawings['outcomes'] = lambda: outcomes_figure(summary)
    if summary.savings['ionic_steps'].percent.n:
        costs = pair_costs(frame)
        drawings['steps'] = lambda: steps_figure(costs['ionic_steps'].dropna(), summary)
        drawings['groups'] = lambda: groups_figure(summary)
        if summary.savings['core_time_s'].percent.n:
            drawings['time'] = lambda: time_figure(costs['core_time_s'].dropna())
    above_known = both.dropna(subset=[f'{leg}_start_energy_error_meV_per_atom' for leg in LEGS])
    if len(above_known):
        drawings['energies'] = lambda: energies_figure(above_known)
    if len(both):
        drawings['geometry'] = lambda: geometry_figure(both)
    if both['uncertainty_A'].notna().any():
        drawings['uncertainty'] = lambda: uncertainty_figure(both)
    return save_figures(drawings, folder, note)


def save_figures(drawings: Mapping[str, Callable[[], Any]], folder: Path, note: str = '') -> list[Path]:
    """Draw figures by their name, with a `note` in the corner, write them in `FORMATS` and return the files."""
    files = []
    for name, draw in drawings.items():
        figure = draw()
        if note:
            figure.suptitle(note, x=0.99, ha='right', fontsize=7, color=GREY)
        for suffix in FORMATS:
            files.append(folder / f'{name}.{suffix}')
            figure.savefig(files[-1], dpi=200)
    return files


def describe_stand_in(engines: Sequence[str]) -> str:
    """Return the note on figures of what the stand-in computed; empty where VASP did."""
    own = [engine for engine in engines if engine != 'VASP']
    return f'computed by the VASP stand-in ({", ".join(engines)})' if own else ''


def energies_figure(both: pd.DataFrame) -> Any:
    """Return the figure of E(unrelaxed), E(predicted) and E(relaxed), against E(relaxed) from the raw structure."""
    relaxed = column_values(both, 'raw_energy_final_eV_per_atom')
    boxes = {
        'unrelaxed': 1e3 * (column_values(both, 'raw_energy_first_step_eV_per_atom') - relaxed),
        'predicted': 1e3 * (column_values(both, 'predicted_energy_first_step_eV_per_atom') - relaxed),
        'relaxed from\nthe prediction': 1e3 * (column_values(both, 'predicted_energy_final_eV_per_atom') - relaxed),
    }
    figure = matplotlib_figure(8, 3.4)
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.25])
    _draw_boxes(left, boxes, (RAW, PREDICTED, RELAXED))
    left.axhline(0, color=GREY, linewidth=0.8, zorder=0)
    left.set_yscale('symlog', linthresh=1)
    left.yaxis.set_major_formatter('{x:g}')
    everything = np.concatenate(list(boxes.values()))
    left.set_ylim(min(-1, 2 * everything.min()), max(1, 2 * everything.max()))
    left.set(ylabel='E - E$_\\mathrm{relaxed}$ (meV/atom)', title=_format_count(len(both)))
    edges = _symmetric_log_bins(np.concatenate([boxes['unrelaxed'], boxes['predicted']]))
    for (name, values), colour in zip(boxes.items(), (RAW, PREDICTED), strict=False):
        label = f'{name}, median {np.median(values):.3g}'
        right.hist(values, edges, color=colour, alpha=0.35, label=label)
        right.hist(values, edges, color=colour, histtype='step')
    right.set_xscale('symlog', linthresh=1)
    right.xaxis.set_major_formatter('{x:g}')
    right.set(xlabel='E$_\\mathrm{start}$ - E$_\\mathrm{relaxed}$ (meV/atom)', ylabel='structures')
    right.yaxis.get_major_locator().set_params(integer=True)
    _give_room_for_legend(right)
    return figure


def steps_figure(steps: pd.DataFrame, summary: Summary) -> Any:
    """Return the figure of the ionic steps with and without the prediction, structure by structure."""
    without, with_network = column_values(steps, 'without'), column_values(steps, 'with')
    figure = matplotlib_figure(8, 3.6)
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.25])
    _draw_boxes(left, {'from the\nraw crystal': without, 'from the\nprediction': with_network}, (RAW, PREDICTED))
    if len(steps) <= FEW:
        left.plot([1, 2], [without, with_network], color=GREY, linewidth=0.6, alpha=0.7, zorder=0)
    left.set(ylabel='ionic steps of VASP', ylim=(0, None), title=_format_count(len(steps)))
    pairs, counts = np.unique(np.stack([without, with_network], axis=1), axis=0, return_counts=True)
    sizes = 14 * np.sqrt(counts) if len(steps) <= FEW else 6 * np.sqrt(counts)
    fewer = pairs[:, 1] < pairs[:, 0]
    for chosen, colour in ((fewer, PREDICTED), (~fewer, RAW)):
        right.scatter(*pairs[chosen].T, s=sizes[chosen], color=colour, alpha=0.6, linewidth=0)
    end = 1.05 * max(without.max(), with_network.max())
    right.plot([0, end], [0, end], '--', color=GREY, linewidth=1, zorder=0)
    saving = summary.savings['ionic_steps']
    counts_text = f'fewer for {saving.less}, the same for {saving.same}, more for {saving.more}'
    right.set(xlabel='ionic steps from the raw crystal', ylabel='from the prediction', title=counts_text)
    right.set(xlim=(0, end), ylim=(0, end))
    return figure


def time_figure(core_time: pd.DataFrame) -> Any:
    """Return the figure of the core time saved, structure by structure and summed up."""
    saved = np.sort((core_time['without'] - core_time['with']).to_numpy(dtype=np.float64))[::-1]
    scale, unit = (3600.0, 'h') if np.abs(saved).sum() > 3600 else (1.0, 's')
    figure = matplotlib_figure(8, 3.2)
    left, right = figure.subplots(1, 2)
    saved = saved / scale
    left.axhline(0, color=GREY, linewidth=0.8)
    ranks = np.arange(1, len(saved) + 1)
    for chosen, colour in ((saved > 0, PREDICTED), (saved <= 0, RAW)):
        left.bar(ranks[chosen], saved[chosen], width=1, color=colour, alpha=0.6, linewidth=0)
    left.set(xlabel='structures, by time saved', ylabel=f'core time saved (core-{unit})')
    right.plot([0, *ranks], [0, *saved.cumsum()], color=PREDICTED)
    right.axhline(0, color=GREY, linewidth=0.8)
    right.plot(len(saved), saved.sum(), 'o', color=PREDICTED, markersize=4)
    right.set(xlabel='structures, by time saved', ylabel=f'core time saved, summed (core-{unit})')
    total = core_time['without'].sum() / scale
    right.set_title(
        f'{_format_time(saved.sum())} of {_format_time(total)} core-{unit} saved, prediction included', fontsize=9
    )
    for axes in (left, right):
        axes.set_xlim(0, len(saved) + 1)
        axes.xaxis.get_major_locator().set_params(integer=True)
    return figure


def groups_figure(summary: Summary) -> Any:
    """Return the figure of the ionic steps saved by class of compounds, by initial error and by element."""
    parts = {
        'class of compounds': sorted(summary.by_class, key=lambda group: group.percent.value or 0.0),
        'energy error of the raw structure': list(summary.by_initial_error),
    }
    parts = {title: groups for title, groups in parts.items() if groups}
    elements = [group for group in summary.by_element if group.percent.value is not None]
    rows = max(len(groups) for groups in parts.values())
    lines = [elements[start : start + IN_A_LINE] for start in range(0, len(elements), IN_A_LINE)]
    figure = matplotlib_figure(8, 1.4 + 0.26 * rows + 2.4 * len(lines))
    grid = figure.add_gridspec(1 + len(lines), len(parts), height_ratios=[0.26 * rows + 0.6, *len(lines) * [2.4]])
    for column, (title, groups) in enumerate(parts.items()):
        axes = figure.add_subplot(grid[0, column])
        places = range(len(groups))
        _draw_shares(axes, groups, places, horizontal=True)
        axes.set_yticks(places, [f'{group.name} ({group.percent.n})' for group in groups])
        axes.set(xlabel='ionic steps saved (%)', title=title, ylim=(-0.6, rows - 0.4))
    for line, groups in enumerate(lines, 1):
        axes = figure.add_subplot(grid[line, :])
        places = range(len(groups))
        _draw_shares(axes, groups, places, horizontal=False)
        axes.set_xticks(places, [f'{group.name}\n{group.percent.n}' for group in groups], fontsize=7)
        axes.set(ylabel='ionic steps saved (%)', xlim=(-0.6, min(len(elements), IN_A_LINE) - 0.4))
        axes.set_title('element, with the number of structures' if line == 1 else '')
    return figure


def arms_figure(comparison: ArmsComparison) -> Any:
    """Return the figure of the ionic steps from each start, crystal by crystal, and of what each arm saves."""
    arms = comparison.ranking[::-1]
    steps = {RAW_START: comparison.steps_of(RAW_START)} | {arm.name: comparison.steps_of(arm.name) for arm in arms}
    boxes = {_break_name(start): column.to_numpy(dtype=np.float64) for start, column in steps.items()}
    colours = tuple(RAW if start == RAW_START else PREDICTED for start in steps)
    figure = matplotlib_figure(max(8, 4 + len(boxes)), 3.8)
    left, right = figure.subplots(1, 2, width_ratios=[0.8 + 0.5 * len(boxes), 2.2])
    if comparison.n <= FEW:
        places = np.arange(1, len(boxes) + 1)
        left.plot(places, list(boxes.values()), color=GREY, linewidth=0.6, alpha=0.6, zorder=0)
    _draw_boxes(left, boxes, colours)
    left.set(ylabel='ionic steps of VASP', ylim=(0, None), title=f'{_format_count(comparison.n)} of all arms')
    left.tick_params(axis='x', labelsize=7.5)
    shares = [GroupSaving(arm.name, arm.savings['ionic_steps'].percent) for arm in arms]
    _draw_shares(right, shares, range(len(arms)), horizontal=True)
    right.set_yticks(range(len(arms)), [arm.name for arm in arms], fontsize=8)
    right.set(xlabel='ionic steps saved (%)', ylim=(-0.6, len(arms) - 0.4))
    return figure


def geometry_figure(both: pd.DataFrame) -> Any:
    """Return the figure of how far predictions are from the relaxed crystals, beside the Dummy that moves nothing."""
    figure = matplotlib_figure(9, 3.0)
    for axes, (measure, label) in zip(figure.subplots(1, 3, sharey=True), GEOMETRY, strict=True):
        of_legs = [np.maximum(column_values(both, f'{leg}_{measure}'), SMALLEST) for leg in ('raw', 'predicted')]
        for values, name, colour in zip(of_legs, ('Dummy', 'prediction'), (RAW, PREDICTED), strict=True):
            axes.ecdf(values, color=colour, label=f'{name}, median {np.median(values):.2g}')
        axes.set(xscale='log', xlabel=label, ylim=(0, 1))
        label_decades(axes.xaxis, np.min(of_legs), np.max(of_legs))
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=7, loc='lower left', bbox_to_anchor=(0, 1))
    figure.axes[0].set_ylabel('share of structures below')
    return figure


def uncertainty_figure(both: pd.DataFrame) -> Any:
    """Return the figure of what the network stated of its error against the error found."""
    known = both[['uncertainty_A', 'predicted_start_coordinate_mae_A']].dropna()
    stated, found = (np.maximum(column_values(known, column), SMALLEST) for column in known.columns)
    figure = matplotlib_figure(4.4, 3.8)
    axes = figure.subplots()
    axes.scatter(stated, found, s=14 if len(known) <= FEW else 5, color=PREDICTED, alpha=0.4, linewidth=0)
    axes.set(xscale='log', yscale='log', title=_format_count(len(known)))
    axes.set(xlabel='stated uncertainty of bond lengths (Å)', ylabel='coordinate error found (Å)')
    label_decades(axes.xaxis, stated.min(), stated.max())
    label_decades(axes.yaxis, found.min(), found.max())
    ends = [min(stated.min(), found.min()), max(stated.max(), found.max())]
    axes.plot(ends, ends, '--', color=GREY, linewidth=1, zorder=0)
    return figure


def outcomes_figure(summary: Summary) -> Any:
    """Return the figure of what became of the structures, and of the guard's verdicts."""
    outcomes = {text: summary.outcomes[name] for name, text in OUTCOMES.items() if summary.outcomes[name]}
    figure = matplotlib_figure(8, 1.4 + 0.32 * (len(outcomes) + len(summary.verdicts)))
    sizes = [max(1, len(outcomes)), max(1, len(summary.verdicts))]
    above, below = figure.subplots(2, 1, height_ratios=[size + 0.8 for size in sizes], sharex=True)
    for axes, counts, title in (
        (above, outcomes, f'what became of {_format_count(summary.structures)}'),
        (below, summary.verdicts, "the guard's verdicts on predictions"),
    ):
        places = np.arange(len(counts))[::-1]
        bars = axes.barh(places, list(counts.values()), color=COLOURS[5], height=0.7)
        axes.bar_label(bars, padding=3, fontsize=8)
        axes.set_yticks(places, list(counts))
        axes.set(xlim=(0, 1.08 * summary.structures))
        axes.set_title(title, loc='left')
    below.set_xlabel('structures')
    below.xaxis.get_major_locator().set_params(integer=True)
    return figure


def _draw_boxes(axes: Any, boxes: dict[str, Values], colours: tuple[str, ...]) -> None:
    """Draw boxes of quartiles with whiskers from 5 to 95 %; structures one by one where they are few."""
    drawn = axes.boxplot(
        list(boxes.values()),
        whis=(5, 95),
        showfliers=len(next(iter(boxes.values()))) > FEW,
        flierprops={'marker': '.', 'markersize': 2, 'markeredgecolor': GREY},
        medianprops={'color': 'black'},
        patch_artist=True,
        widths=0.5,
    )
    for place, (patch, values, colour) in enumerate(zip(drawn['boxes'], boxes.values(), colours, strict=True), 1):
        patch.set(facecolor=colour, alpha=0.5)
        if len(values) <= FEW:
            axes.plot(np.full(len(values), place), values, 'o', color=colour, markersize=3.5)
    axes.set_xticks(range(1, len(boxes) + 1), list(boxes))


def _break_name(start: str) -> str:
    """Return the name of a start on lines that fit below a box."""
    lines = start.replace(' (', '\n(')
    return lines.replace('+', '\n+ ').replace(' sevennet-', ' sevennet\n-') if '+' in start else lines


def _draw_shares(axes: Any, groups: Sequence[GroupSaving], places: Sequence[int], horizontal: bool) -> None:
    """Draw the share saved of each group as a dot with its interval, where it has one."""
    axes.axvline(0, color=GREY, linewidth=0.8) if horizontal else axes.axhline(0, color=GREY, linewidth=0.8)
    for place, group in zip(places, groups, strict=True):
        share = group.percent
        if share.value is None:
            continue
        colour = PREDICTED if share.value >= 0 else RAW
        axes.plot(*((share.value, place) if horizontal else (place, share.value)), 'o', color=colour, markersize=5)
        if share.low is not None and share.high is not None:
            ends = [share.low, share.high], [place, place]
            axes.plot(*(ends if horizontal else ends[::-1]), color=colour, linewidth=1.5)
    axes.grid(axis='x' if horizontal else 'y', alpha=0.3)


def _symmetric_log_bins(values: Values) -> Values:
    """Return bins as wide as they look on an axis that is linear between -1 and 1 and logarithmic beyond."""
    known = values[np.isfinite(values)]
    places = np.sign(known) * np.log10(1 + np.abs(known))
    edges = np.linspace(places.min() - 0.05, places.max() + 0.05, min(41, 8 + len(known)))
    return np.sign(edges) * (10 ** np.abs(edges) - 1)


def _give_room_for_legend(axes: Any) -> None:
    axes.set_ylim(0, 1.3 * axes.get_ylim()[1])
    axes.legend(frameon=False, fontsize=8, loc='upper left')


def _format_count(number: int) -> str:
    return '1 structure' if number == 1 else f'{number} structures'


def _format_time(number: float) -> str:
    return f'{number:,.0f}' if abs(number) >= 100 else f'{number:.3g}'
