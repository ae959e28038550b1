"""What the interactive plots have in common: colours, axes and the pieces they are made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from aiida_e3relax.campaign.results import noise
from aiida_e3relax.campaign.results.outcomes import FAILURES
from aiida_e3relax.common.figures import COLOURS, GREY
from aiida_e3relax.workflows.vasp.messages import LEG_NAMES

BLUE, ORANGE, GREEN, PINK, YELLOW, _ = COLOURS
LEG_COLOURS = {'raw': ORANGE, 'predicted': BLUE}
LEG_TITLES = {leg: f'from {LEG_NAMES[leg]}' for leg in ('raw', 'predicted')}
OUTCOME_COLOURS = {
    'accepted': BLUE,
    'accepted with warnings': YELLOW,
    'rejected': ORANGE,
    'compared': BLUE,
    'no reference': BLUE,
    'running': YELLOW,
    **dict.fromkeys(FAILURES, PINK),
}
"""Of the verdicts of the guard, and of `outcomes.OUTCOMES`; what is not here is grey."""
POINT = {'color': BLUE, 'size': 8, 'opacity': 0.65, 'line': {'width': 0.5, 'color': 'white'}}
FLOOR = noise.ENERGY
"""In meV/atom. Starts that are nearer to their end are drawn here, since a logarithmic scale has no zero."""
SPAN = 10
"""Axes reach over so many times the noise at least, so that noise does not look like signal."""
ALL_POINTS = 200
"""Boxes of up to so many crystals show each as a point, larger ones the outliers only."""
MOST_DECADES = 2.5
"""On logarithmic axes that span more, labels between the powers of ten would touch."""

_AXIS = {
    'gridcolor': '#e8e8e8',
    'zeroline': False,
    'linecolor': '#9a9a9a',
    'ticks': 'outside',
    'automargin': True,
    'title': {'font': {'size': 13}, 'standoff': 8},
}
_LAYOUT = go.Layout(
    template='none',
    font={'family': 'system-ui, -apple-system, "Segoe UI", sans-serif', 'size': 13, 'color': '#22272e'},
    margin={'l': 64, 'r': 16, 't': 36, 'b': 52},
    xaxis=_AXIS,
    yaxis=_AXIS,
    legend={'orientation': 'h', 'x': 0, 'y': 1.02, 'yanchor': 'bottom'},
    hoverlabel={'bgcolor': 'white', 'align': 'left'},
    paper_bgcolor='rgba(0,0,0,0)',
    plot_bgcolor='rgba(0,0,0,0)',
)


def new_plot(height: int = 400) -> go.Figure:
    """Return an empty figure in the style of the page, `height` pixels high and as wide as it may be."""
    return go.Figure(layout=_LAYOUT).update_layout(height=height)


def new_subplots(rows: int, columns: int, **options: Any) -> go.Figure:
    """Return an empty figure of several plots in that style; `options` are those of `make_subplots`."""
    figure = make_subplots(rows, columns, **options).update_annotations(font_size=13)
    figure.update_layout(_LAYOUT).update_layout(height=400)
    return figure.update_xaxes(_AXIS).update_yaxes(_AXIS)


def box(values: pd.Series, name: str, colour: str, unit: str) -> go.Box:
    """Return a box of `values`, whose index are labels; its points know which crystal they are."""
    values = values.dropna()
    return go.Box(
        y=values,
        name=name,
        boxpoints='all' if len(values) <= ALL_POINTS else 'outliers',
        jitter=0.4,
        pointpos=0,
        marker={'color': colour, 'size': 5, 'opacity': 0.6},
        line={'width': 1.5},
        customdata=values.index,
        hovertemplate=f'%{{customdata}}<br>%{{y:.4g}} {unit}<extra></extra>',
    )


def log_histogram(figure: go.Figure, columns: Mapping[str, pd.Series], title: str) -> None:
    """Add a histogram of each leg's values to `figure`, in bins of equal width on a logarithmic axis."""
    columns = {leg: values.clip(lower=FLOOR) for leg, values in columns.items()}
    known = pd.concat(columns.values())
    n_bins = int(np.clip(np.sqrt(len(known)), 6, 30))
    edges = np.geomspace(known.min() / 1.2, max(1.2 * known.max(), SPAN * FLOOR), n_bins + 1)
    most = 0
    for leg, values in columns.items():
        counts, _ = np.histogram(values, edges)
        figure.add_bar(
            x=(edges[:-1] + edges[1:]) / 2,  # a bar reaches half its width to both sides, before the logarithm
            y=counts,
            width=np.diff(edges),
            marker={'color': LEG_COLOURS[leg], 'opacity': 0.55},
            name=LEG_TITLES[leg],
            customdata=np.column_stack([edges[:-1], edges[1:]]),
            hovertemplate='%{y} crystals from %{customdata[0]:.2g} to %{customdata[1]:.2g} meV/atom<extra></extra>',
        )
        most = max(most, int(counts.max()))
    figure.update_layout(barmode='overlay')
    figure.update_xaxes(title_text=title, **energy_axis(edges))
    figure.update_yaxes(title_text='crystals', dtick=1 if most < 8 else None)


def energy_axis(values: NDArray[np.float64] | pd.Series) -> dict[str, Any]:
    """Return what makes an axis of energy errors in meV/atom logarithmic, from `FLOOR`, which stands for less, on."""
    high = max(float(values.max()), SPAN * FLOOR)
    ticks = [tick for tick in log_ticks(np.array([FLOOR, high])) if tick >= FLOOR]
    return {
        'type': 'log',
        'range': [math.log10(FLOOR / 1.3), math.log10(1.3 * high)],
        'tickvals': ticks,
        'ticktext': [f'≤ {FLOOR:g}' if tick == FLOOR else f'{tick:g}' for tick in ticks],
    }


def from_zero(values: pd.Series, noise_of_values: float) -> dict[str, Any]:
    """Return what makes an axis begin at zero and reach beyond `values` and the noise, in plain numbers."""
    high = max(1.05 * float(values.max()), SPAN * noise_of_values)
    return {'range': [-0.02 * high, high], 'exponentformat': 'none'}


def log_ticks(values: NDArray[np.float64]) -> list[float]:
    """Return the powers of ten about positive `values`, and twice and five times as much where they span little."""
    low, high = math.log10(values.min()), math.log10(values.max())
    digits = (1, 2, 5) if high - low < MOST_DECADES else (1,)
    decades = range(math.floor(low), math.ceil(high) + 1)
    return [float(f'{digit}e{decade}') for decade in decades for digit in digits]


def add_diagonal(figure: go.Figure, low: float, high: float, name: str) -> None:
    """Add the line on which both axes are equal."""
    figure.add_scatter(
        x=[low, high], y=[low, high], mode='lines', line={'color': GREY, 'dash': 'dash'}, name=name, hoverinfo='skip'
    )
