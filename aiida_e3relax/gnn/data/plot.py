"""A data set in one figure: sizes, what relaxation changes, and which elements occur."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.common.figures import COLOURS, draw_periodic_table, matplotlib_figure
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.gnn.data.summary import Changes, summary


def plot_pairs(pairs: Pairs, path: Path) -> None:
    """Write the figure of a data set to `path`; needs matplotlib."""
    facts, changes = summary(pairs), Changes.of(pairs)
    figure = matplotlib_figure(10, 8)
    grid = figure.add_gridspec(3, 2, height_ratios=[1, 1, 1.5])
    panels = [figure.add_subplot(grid[row, column]) for row in (0, 1) for column in (0, 1)]
    sources = np.unique(pairs.source)
    sizes = pairs.unrelaxed.n_atoms
    rows = [
        (sizes, 'atoms a cell', np.arange(0.5, sizes.max() + 1.5, max(1, sizes.max() // 40))),
        (changes.displacement_A, 'mean displacement (A), drift removed', _bins(changes.displacement_A, 0)),
        (changes.volume_percent, 'volume change (%)', _bins(changes.volume_percent)),
        (changes.rotation_degrees, 'rotation between the two files (degrees)', _bins(changes.rotation_degrees, 0)),
    ]
    for axes, (values, label, edges) in zip(panels, rows, strict=True):
        parts = [np.clip(values[pairs.source == source], edges[0], edges[-1]) for source in sources]
        colours = [COLOURS[i % len(COLOURS)] for i in range(len(sources))]
        axes.hist(
            parts,
            edges,
            stacked=True,
            color=colours,
            label=[f'{s} ({len(p)})' for s, p in zip(sources, parts, strict=True)],
        )
        axes.axvline(np.median(values), color='black', linewidth=1, linestyle='--')
        axes.text(
            0.97, 0.92, f'median {np.median(values):.3g}', transform=axes.transAxes, ha='right', va='top', fontsize=8
        )
        axes.set(xlabel=label, ylabel='pairs')
    panels[0].xaxis.get_major_locator().set_params(integer=True)
    panels[0].legend(frameon=False, loc='center right')
    table = figure.add_subplot(grid[2, :])
    draw_periodic_table(table, facts['pairs_with_element'], 'pairs with the element', logarithmic=True)
    figure.suptitle(
        f'{len(pairs)} pairs, {int(sizes.sum())} atoms; values beyond the 99th percentile stand in the last bar'
    )
    figure.savefig(path, dpi=150)


def _bins(values: NDArray[np.float64], low: float | None = None) -> NDArray[np.float64]:
    """Return 50 bins over the values, the outermost hundredth left out; at least something wide."""
    start = np.quantile(values, 0.005) if low is None else low
    end = np.quantile(values, 0.99)
    return np.linspace(start, end if end - start > 1e-3 else start + 1, 51)
