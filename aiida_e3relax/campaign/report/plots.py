"""Which interactive plots a report has, in their order, each with its title and how to read it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pandas as pd
import plotly.graph_objects as go

from aiida_e3relax.campaign.report import plotly_plots
from aiida_e3relax.campaign.results.outcomes import pair_costs
from aiida_e3relax.campaign.results.statistics import Summary


@dataclasses.dataclass(frozen=True)
class PlotKind:
    """A plot that every report has.

    Attributes
    ----------
    key
        Names the plot in the page.
    title, reading
        What it shows, and how to read it.
    select
        Returns the rows of the table that have what it shows.
    draw
        Returns the figure of these rows, of which there is one at least, or of what the summary says.
    missing
        Why there may be no such rows.
    """

    key: str
    title: str
    reading: str
    select: Callable[[pd.DataFrame], pd.DataFrame]
    draw: Callable[[pd.DataFrame, Summary], go.Figure]
    missing: str


@dataclasses.dataclass(frozen=True)
class Plot:
    """A plot of one campaign.

    Attributes
    ----------
    kind
        What it shows.
    figure
        None where the campaign has nothing to show in it.
    count
        How many structures it shows.
    """

    kind: PlotKind
    figure: go.Figure | None
    count: int


def draw_plots(frame: pd.DataFrame, summary: Summary) -> list[Plot]:
    """Return the plots of a campaign, in the order of the page: those that have nothing to show come last."""
    plots = []
    for kind in PLOT_KINDS:
        rows = kind.select(frame)
        plots.append(Plot(kind, kind.draw(rows, summary) if len(rows) else None, len(rows)))
    return sorted(plots, key=lambda plot: plot.figure is None)


def select_pairs(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the structures that VASP relaxed to the end from both starts."""
    return frame[frame['same_minimum'].notna()]


def _have(*columns: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda frame: frame.dropna(subset=list(columns))


def _select_times(frame: pd.DataFrame) -> pd.DataFrame:
    pairs = select_pairs(frame)
    known = pair_costs(pairs)['core_time_s'].dropna() if len(pairs) else pairs
    return pairs.loc[known.index]


_NO_PAIRS = 'No structure has been relaxed to the end from both starts.'
PLOT_KINDS = (
    PlotKind(
        'steps',
        'Ionic steps with and without the prediction',
        'Each crystal was relaxed twice with the same settings. Orange is the start from the raw crystal, blue that '
        'from the prediction; in a cloud of points, those below the dashed line became shorter.',
        select_pairs,
        lambda rows, _: plotly_plots.plot_steps(rows),
        _NO_PAIRS,
    ),
    PlotKind(
        'energies',
        'Energies of the starts',
        'The closer a start is to its relaxed crystal, the less is left to do. A box holds the middle half of the '
        'crystals, its line is the median; left on a logarithmic scale, right the energies themselves as the papers '
        'draw them.',
        _have('raw_start_energy_error_meV_per_atom', 'predicted_start_energy_error_meV_per_atom'),
        lambda rows, _: plotly_plots.plot_energies(rows),
        'Of no structure is it known how far both starts lie above their ends.',
    ),
    PlotKind(
        'energy-errors',
        'E_pred − E_relaxed',
        'How many crystals start how far above their relaxed energy, on a logarithmic scale: the blue hill should lie '
        'left of the orange one.',
        _have('predicted_start_energy_error_meV_per_atom'),
        lambda rows, _: plotly_plots.plot_energy_errors(rows),
        'No relaxation from a prediction has finished.',
    ),
    PlotKind(
        'geometry-errors',
        'Geometry of the starts',
        'How far each start is from the crystal that VASP makes of it: mean shift of a coordinate, difference of the '
        'metric tensors, and difference of the volumes. Lower is better; what is below the noise of the numbers '
        '(0.001 Å, 0.01 Å² and 0.01 Å³) is drawn as zero.',
        select_pairs,
        lambda rows, _: plotly_plots.plot_geometry_errors(rows),
        _NO_PAIRS,
    ),
    PlotKind(
        'uncertainty',
        'Does the network know when it is wrong?',
        'The network states how wrong it expects bond lengths to be. If that is worth something, the points rise to '
        'the right.',
        _have('uncertainty_A', 'predicted_start_coordinate_mae_A'),
        lambda rows, _: plotly_plots.plot_uncertainties(rows),
        'The network states no uncertainty (an ensemble does: e3relax ensemble --help), or nothing has finished.',
    ),
    PlotKind(
        'times',
        'Time of VASP with and without the prediction',
        'Time of all cores in VASP’s own accounting, on logarithmic scales; with the prediction the time that it '
        'took is counted, too. Below the dashed line the prediction saved time.',
        _select_times,
        lambda rows, _: plotly_plots.plot_times(rows),
        'There is no crystal with times of both relaxations, measured side by side and not taken from a cache.',
    ),
    PlotKind(
        'elements',
        'Savings by element',
        'Ionic steps saved over all crystals that contain an element, with 95 % intervals where they are enough '
        'for one; the larger the point, the more crystals. Rejected predictions count as nothing saved.',
        lambda frame: pair_costs(frame).dropna(subset=[('ionic_steps', 'with'), ('ionic_steps', 'without')]),
        lambda _, summary: plotly_plots.plot_elements(summary.by_element),
        _NO_PAIRS,
    ),
    PlotKind(
        'outcomes',
        'What became of the predictions and of the structures',
        'The guard keeps predictions from VASP that no relaxation should start from; the raw crystal is relaxed '
        'instead. Nothing is left out here: failed and unfinished structures count.',
        lambda frame: frame,
        lambda rows, _: plotly_plots.plot_outcomes(rows),
        'The campaign has no structures.',
    ),
)
