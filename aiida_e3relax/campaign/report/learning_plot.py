"""The learning curve, drawn with plotly for the page and with matplotlib for print."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from aiida_e3relax.campaign.report.plotly_style import GREY, LEG_COLOURS, POINT, new_subplots
from aiida_e3relax.campaign.results.estimates import Estimate
from aiida_e3relax.campaign.results.learning import GenerationResult, LearningResult
from aiida_e3relax.common.figures import matplotlib_figure

READING = (
    'Each point is a generation of the model, judged by structures that were drawn at random and are never learnt '
    'from. The more relaxations it has learnt from, the more steps it should save and the nearer its starts should be; '
    'what it states of its error should fall with the error. Bars are 95 % intervals, of five structures and more; '
    'of steps saved there is none where one structure takes most of them.'
)
COLOUR = LEG_COLOURS['predicted']
ERROR_COLOUR = LEG_COLOURS['raw']


@dataclasses.dataclass(frozen=True)
class Panel:
    """A panel of the figure: the label of its axis, and what it shows of a generation, by name."""

    label: str
    unit: str
    series: dict[str, str]


PANELS = (
    Panel('ionic steps saved (%)', '%', {'saved': 'saved'}),
    Panel('start above its end (meV/atom)', 'meV/atom', {'start_error': 'start'}),
    Panel('error of lengths (Å)', 'Å', {'coordinate_error': 'coordinates, found', 'uncertainty': 'bonds, as stated'}),
)
"""Field of `GenerationResult` and its name in the legend, by panel."""


def has_curve(result: LearningResult) -> bool:
    """Return whether there is a generation to draw."""
    return any(generation.saved.value is not None for generation in result.generations)


def plot_learning(result: LearningResult) -> go.Figure:
    """Draw the learning curve for the page."""
    figure = new_subplots(1, len(PANELS), horizontal_spacing=0.1)
    most = max(1, *(generation.learnt for generation in result.generations))
    for column, panel in enumerate(PANELS, 1):
        for place, (field, name) in enumerate(panel.series.items()):
            known = _known(result, field)
            if not known:
                continue
            estimates = [getattr(generation, field) for generation in known]
            colour = ERROR_COLOUR if len(panel.series) > 1 and place == 0 else COLOUR
            high, low = _bars(estimates)
            figure.add_scatter(
                x=[generation.learnt for generation in known],
                y=[estimate.value for estimate in estimates],
                mode='lines+markers',
                marker=POINT | {'color': colour, 'size': 10, 'opacity': 1},
                line={'color': colour, 'width': 1.5, 'dash': 'dot' if field == 'uncertainty' else 'solid'},
                error_y={'array': high, 'arrayminus': low, 'width': 0, 'thickness': 1.5},
                text=[
                    f'generation {generation.number}, judged by {estimate.n}'
                    for generation, estimate in zip(known, estimates, strict=True)
                ],
                hovertemplate=f'<b>%{{text}}</b><br>%{{x}} relaxations learnt from: %{{y:.3g}} {panel.unit}'
                f'<extra>{name}</extra>',
                name=name,
                showlegend=len(panel.series) > 1,
                row=1,
                col=column,
            )
        figure.update_yaxes(title_text=panel.label, row=1, col=column)
        figure.update_xaxes(title_text='relaxations learnt from', range=[-0.08 * most, 1.08 * most], row=1, col=column)
    figure.update_yaxes(rangemode='tozero', row=1, col=2)
    figure.update_yaxes(rangemode='tozero', row=1, col=3)
    figure.add_hline(y=0, line={'color': GREY, 'dash': 'dash'}, row=1, col=1)
    figure.update_layout(legend={'x': 1, 'xanchor': 'right'})
    return figure


def learning_figure(result: LearningResult) -> Any:
    """Return the learning curve for print."""
    figure = matplotlib_figure(9, 3.0)
    for axes, panel in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        for place, (field, name) in enumerate(panel.series.items()):
            known = _known(result, field)
            estimates = [getattr(generation, field) for generation in known]
            high, low = _bars(estimates)
            colour = ERROR_COLOUR if len(panel.series) > 1 and place == 0 else COLOUR
            axes.errorbar(
                [generation.learnt for generation in known],
                [estimate.value for estimate in estimates],
                yerr=[low, high],
                marker='o',
                markersize=5,
                linestyle=':' if field == 'uncertainty' else '-',
                color=colour,
                label=name,
            )
        if len(panel.series) > 1:
            axes.legend(frameon=False, fontsize=7)
        axes.set(xlabel='relaxations learnt from', ylabel=panel.label)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if panel is not PANELS[0]:
            axes.set_ylim(0, None)
        axes.grid(alpha=0.3)
    counts = [generation.saved.n for generation in _known(result, 'saved')]
    figure.axes[0].set_title(f'judged by {", ".join(map(str, counts))} structures', fontsize=8)
    figure.axes[0].axhline(0, color=GREY, linewidth=0.8)
    return figure


def _known(result: LearningResult, field: str) -> list[GenerationResult]:
    return [generation for generation in result.generations if getattr(generation, field).value is not None]


def _bars(estimates: Sequence[Estimate]) -> tuple[list[float], list[float]]:
    """Return how far intervals reach above and below their values, 0 where there is none."""
    high, low = [], []
    for estimate in estimates:
        assert estimate.value is not None
        high.append(0.0 if estimate.high is None else estimate.high - estimate.value)
        low.append(0.0 if estimate.low is None else estimate.value - estimate.low)
    return high, low
