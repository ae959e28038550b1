"""The trajectories of a chain's relaxations: as lines of text, and as a figure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

from aiida_e3relax.campaign.results.trajectories import Trajectory
from aiida_e3relax.common.figures import COLOURS, GREY, matplotlib_figure
from aiida_e3relax.workflows.vasp.messages import LEG_NAMES

BARS = '▁▂▃▄▅▆▇█'
LEG_COLOURS = {'raw': COLOURS[1], 'predicted': COLOURS[0]}


def format_trajectories(trajectories: Mapping[str, Trajectory]) -> Text:
    """Return a line of text for each leg and quantity, from the first ionic step to the last."""
    lines = [
        f'{quantity:13} from {LEG_NAMES[leg]:17} {sparkline(values)}'
        for quantity, attribute in (('energy', 'energies'), ('largest force', 'max_forces'))
        for leg, trajectory in trajectories.items()
        for values in [getattr(trajectory, attribute)]
    ]
    return Text('\n'.join(lines))


def sparkline(values: NDArray[np.float64]) -> str:
    """Return a bar of text for each value, the smallest the lowest."""
    span = values.max() - values.min()
    heights = (values - values.min()) / span if span > 0 else np.zeros(len(values))
    return ''.join(BARS[round(height * (len(BARS) - 1))] for height in heights)


def draw_trajectories(trajectories: Mapping[str, Trajectory], title: str, path: Path) -> None:
    """Draw energy and largest force against the ionic step for both legs, with a line where a VASP run starts anew."""
    figure = matplotlib_figure(6.0, 5.0)
    above, below = figure.subplots(2, 1, sharex=True)
    lowest = min(trajectory.energies.min() for trajectory in trajectories.values())
    for leg, trajectory in trajectories.items():
        steps = np.arange(1, len(trajectory.energies) + 1)
        style = {'color': LEG_COLOURS[leg], 'marker': 'o', 'markersize': 4, 'label': f'from {LEG_NAMES[leg]}'}
        above.plot(steps, 1e3 * (trajectory.energies - lowest), **style)
        below.plot(steps, trajectory.max_forces, **style)
        for axes in (above, below):
            for start in trajectory.starts[1:]:
                axes.axvline(start + 0.5, color=GREY, linewidth=0.8, linestyle=':')
    above.set(title=title, ylabel='energy above the lowest\n(meV/atom)')
    above.legend(frameon=False)
    below.set(xlabel='ionic step', ylabel='largest force (eV/Å)', yscale='log')
    below.xaxis.get_major_locator().set_params(integer=True)
    figure.savefig(path, dpi=150)
