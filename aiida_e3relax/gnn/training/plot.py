"""The curves of a training run in one figure."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from aiida_e3relax.common.figures import COLOURS, matplotlib_figure


def plot_log(log: Path, path: Path) -> None:
    """Draw the ``log.csv`` of a run as a PNG at `path`, which readers see whole or not at all; needs matplotlib."""
    import matplotlib as mpl

    with log.open(newline='', encoding='utf-8') as handle:
        rows = list(csv.DictReader(handle))
    columns = {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
    figure = matplotlib_figure(11, 3.4)
    axes = figure.subplots(1, 3)
    marker = 'o' if len(rows) < 30 else ''
    for panel, name, label in ((axes[0], 'coordinates', 'coordinate error (A)'), (axes[1], 'cell', 'cell error (A)')):
        for split, colour, text in (('train', COLOURS[0], 'training, running mean'), ('val', COLOURS[1], 'validation')):
            values = columns[f'{split}_{name}_A']
            scale = 'log' if (values > 0).any() else 'linear'  # the error of cells that are all fixed is zero
            panel.plot(columns['step'], values, color=colour, marker=marker, markersize=3, label=text)
        lowest = int(np.argmin(values))
        panel.set(
            ylabel=label, yscale=scale, title=f'lowest {values[lowest]:.4g} A at step {columns["step"][lowest]:g}'
        )
    axes[0].legend(frameon=False)
    axes[2].plot(columns['step'], columns['learning_rate'], color=COLOURS[2], marker=marker, markersize=3)
    axes[2].set(ylabel='learning rate', ylim=(0, None))
    for panel in axes:
        panel.set_xlabel('step')
        panel.grid(which='both', alpha=0.3)
    unfinished = path.with_name(f'.{path.name}.part')
    with mpl.rc_context({'axes.formatter.min_exponent': 3}):  # 0.2, not 2 x 10^-1
        figure.savefig(unfinished, dpi=120, format='png')
    unfinished.replace(path)
