"""The interactive plots of a report, drawn with plotly: each from the rows of a table that have what it shows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from aiida_e3relax.campaign.report.plotly_style import (
    FLOOR,
    GREEN,
    GREY,
    LEG_COLOURS,
    LEG_TITLES,
    OUTCOME_COLOURS,
    POINT,
    SPAN,
    add_diagonal,
    box,
    energy_axis,
    from_zero,
    log_histogram,
    log_ticks,
    new_plot,
    new_subplots,
)
from aiida_e3relax.campaign.results.noise import ENERGY, LENGTH, NOISE, without_noise
from aiida_e3relax.campaign.results.outcomes import OUTCOMES, find_outcomes, pair_costs
from aiida_e3relax.campaign.results.statistics import GroupSaving

MOST_DUMBBELLS = 40
"""With more pairs than this the ionic steps are drawn as points, since lines could not be told apart."""


def plot_steps(pairs: pd.DataFrame) -> go.Figure:
    """Draw the ionic steps with and without the prediction: a line a crystal where they are few, else points."""
    return _plot_dumbbells(pairs) if len(pairs) <= MOST_DUMBBELLS else _plot_step_points(pairs)


def _plot_dumbbells(pairs: pd.DataFrame) -> go.Figure:
    pairs = pairs.sort_values(['ionic_steps_saved', 'raw_ionic_steps'])
    ends = pairs[['raw_ionic_steps', 'predicted_ionic_steps']].assign(gap=np.nan).to_numpy().ravel()
    # Categories are the labels, which are unique; formulas need not be.
    figure = new_plot(height=max(320, 110 + 20 * len(pairs)))
    figure.add_scatter(
        x=ends,
        y=np.repeat(pairs.index, 3),
        mode='lines',
        line={'color': GREY, 'width': 2},
        hoverinfo='skip',
        showlegend=False,
    )
    for leg, title in LEG_TITLES.items():
        figure.add_scatter(
            x=pairs[f'{leg}_ionic_steps'],
            y=pairs.index,
            mode='markers',
            marker={'color': LEG_COLOURS[leg], 'size': 10},
            name=title,
            customdata=pairs.index,
            text=pairs['formula'],
            hovertemplate=f'<b>%{{text}}</b> %{{y}}<br>%{{x}} ionic steps {title}<extra></extra>',
        )
    figure.update_xaxes(title_text='ionic steps', rangemode='tozero')
    names = [f'{formula}  {label}' if formula != label else label for label, formula in pairs['formula'].items()]
    figure.update_yaxes(tickvals=list(pairs.index), ticktext=[_shorten(name) for name in names], showgrid=False)
    return figure


def _shorten(name: str, length: int = 26) -> str:
    return name if len(name) <= length else f'{name[: length - 1]}…'


def _plot_step_points(pairs: pd.DataFrame) -> go.Figure:
    # Counts fall on top of each other: a shift below half a step shows how many there are. Always the same one.
    shift = np.random.default_rng(0).uniform(-0.3, 0.3, (2, len(pairs)))
    before, after = pairs['raw_ionic_steps'], pairs['predicted_ionic_steps']
    figure = new_plot()
    figure.add_scatter(
        x=before + shift[0],
        y=after + shift[1],
        mode='markers',
        marker=POINT,
        customdata=pairs.index,
        text=[
            f'<b>{formula}</b> {label}<br>{n:.0f} steps without, {m:.0f} with the prediction'
            for (label, formula), n, m in zip(pairs['formula'].items(), before, after, strict=True)
        ],
        hovertemplate='%{text}<extra></extra>',
        showlegend=False,
    )
    add_diagonal(figure, 0.0, float(max(before.max(), after.max())) + 1, 'nothing saved')
    figure.update_xaxes(title_text='ionic steps without the prediction')
    figure.update_yaxes(title_text='ionic steps with it')
    return figure


def plot_energies(pairs: pd.DataFrame) -> go.Figure:
    """Draw the energies of the starts above their ends, and all three energies as the papers do."""
    figure = new_subplots(1, 2, column_titles=['above the relaxed crystal', 'as they are'], horizontal_spacing=0.2)
    above = {leg: pairs[f'{leg}_start_energy_error_meV_per_atom'].clip(lower=FLOOR) for leg in LEG_TITLES}
    for leg, name in (('raw', 'E<sub>unrelaxed</sub>'), ('predicted', 'E<sub>pred</sub>')):
        figure.add_trace(box(above[leg], name, LEG_COLOURS[leg], 'meV/atom'), 1, 1)
        figure.add_trace(box(pairs[f'{leg}_energy_first_step_eV_per_atom'], name, LEG_COLOURS[leg], 'eV/atom'), 1, 2)
    relaxed = pairs['predicted_energy_final_eV_per_atom']
    figure.add_trace(box(relaxed, 'E<sub>relaxed</sub>', GREEN, 'eV/atom'), 1, 2)
    title = 'E − E<sub>relaxed</sub> (meV/atom)'
    figure.update_yaxes(title_text=title, **energy_axis(pd.concat(above.values())), row=1, col=1)
    figure.update_yaxes(title_text='E (eV/atom)', row=1, col=2)
    energies = np.concatenate([trace.y for trace in figure.data if trace.yaxis == 'y2'])
    if np.ptp(energies) < (least := SPAN * ENERGY / 1000):
        middle = float(np.mean(energies))
        figure.update_yaxes(range=[middle - least, middle + least], tickformat='.4f', row=1, col=2)
    figure.update_layout(showlegend=False)
    return figure


def plot_energy_errors(rows: pd.DataFrame) -> go.Figure:
    """Draw how the energies of the starts above their ends are distributed."""
    figure = new_plot()
    columns = {leg: rows[f'{leg}_start_energy_error_meV_per_atom'].dropna() for leg in LEG_TITLES}
    log_histogram(figure, columns, 'E of the start − E<sub>relaxed</sub> (meV/atom)')
    return figure


def plot_geometry_errors(pairs: pd.DataFrame) -> go.Figure:
    """Draw how far the starts are from their ends, by the three measures of the papers."""
    measures = (
        ('start_coordinate_mae_A', 'coordinates', 'Å'),
        ('start_cell_shape_deviation_A2', 'cell shape', 'Å²'),
        ('start_volume_error_A3', 'volume', 'Å³'),
    )
    titles = [f'{name} ({unit})' for _, name, unit in measures]
    figure = new_subplots(1, 3, column_titles=titles, horizontal_spacing=0.11)
    for column, (key, _, unit) in enumerate(measures, 1):
        errors = {leg: without_noise(pairs[f'{leg}_{key}'], NOISE[key]) for leg in LEG_TITLES}
        for leg, name in (('raw', 'raw'), ('predicted', 'prediction')):
            figure.add_trace(box(errors[leg], name, LEG_COLOURS[leg], unit), 1, column)
        figure.update_yaxes(**from_zero(pd.concat(errors.values()), NOISE[key]), row=1, col=column)
    figure.update_layout(showlegend=False)
    return figure


def plot_uncertainties(rows: pd.DataFrame) -> go.Figure:
    """Draw the error of the predictions against what the network said it would be."""
    figure = new_plot()
    found = without_noise(rows['predicted_start_coordinate_mae_A'], LENGTH)
    figure.add_scatter(
        x=rows['uncertainty_A'],
        y=found,
        mode='markers',
        marker=POINT,
        customdata=rows.index,
        text=rows['formula'],
        hovertemplate='<b>%{text}</b> %{customdata}<br>stated %{x:.3f} Å, found %{y:.3f} Å<extra></extra>',
        showlegend=False,
    )
    figure.update_xaxes(
        title_text='uncertainty that the network states (Å)', **from_zero(rows['uncertainty_A'], LENGTH)
    )
    figure.update_yaxes(title_text='coordinate error (Å)', **from_zero(found, LENGTH))
    return figure


def plot_times(pairs: pd.DataFrame) -> go.Figure:
    """Draw the core time of both legs of each crystal, that of the network counted to the leg from its prediction."""
    costs = pair_costs(pairs)['core_time_s'].clip(lower=0.01)
    pairs = pairs.loc[costs.index]
    before, after = costs['without'], costs['with']
    figure = new_plot()
    for same, name, colour, symbol in (
        (True, 'same minimum', LEG_COLOURS['predicted'], 'circle'),
        (False, 'another minimum', LEG_COLOURS['raw'], 'diamond'),
    ):
        chosen = pairs['same_minimum'] == same
        figure.add_scatter(
            x=before[chosen],
            y=after[chosen],
            mode='markers',
            marker=POINT | {'color': colour, 'symbol': symbol},
            name=name,
            customdata=pairs.index[chosen],
            text=pairs['formula'][chosen],
            hovertemplate='<b>%{text}</b> %{customdata}<br>%{x:.3g} s without, %{y:.3g} s with<extra></extra>',
        )
    times = np.concatenate([before, after])
    add_diagonal(figure, 0.8 * float(times.min()), 1.25 * float(times.max()), 'nothing saved')
    figure.update_xaxes(title_text='core time without the prediction (s)', type='log', tickvals=log_ticks(times))
    figure.update_yaxes(title_text='core time with it (s)', type='log', tickvals=log_ticks(times))
    return figure


def plot_elements(groups: Sequence[GroupSaving]) -> go.Figure:
    """Draw the share of ionic steps saved over the crystals that have an element, with its interval."""
    known = [group for group in groups if group.percent.value is not None]
    shares = pd.DataFrame([dataclasses.asdict(group.percent) for group in known], index=[group.name for group in known])
    shares = shares.sort_values('value', ascending=False)
    figure = new_plot()
    figure.add_scatter(
        x=shares.index,
        y=shares['value'],
        mode='markers',
        marker=POINT | {'size': 6 + 14 * np.sqrt(shares['n'] / shares['n'].max())},
        error_y={
            'array': shares['high'] - shares['value'],
            'arrayminus': shares['value'] - shares['low'],
            'width': 0,
            'thickness': 1,
        },
        text=shares['n'],
        hovertemplate='<b>%{x}</b>: %{y:.0f} % saved over %{text} crystals<extra></extra>',
        showlegend=False,
    )
    figure.add_hline(y=0, line={'color': GREY, 'dash': 'dash'})
    figure.update_xaxes(showgrid=False, type='category', tickfont={'size': 11})
    figure.update_yaxes(title_text='ionic steps saved (%)')
    return figure


def plot_outcomes(frame: pd.DataFrame) -> go.Figure:
    """Draw what the guard said of the predictions, and what became of the structures."""
    figure = new_subplots(2, 1, row_titles=['guard', 'structure'], vertical_spacing=0.14)
    verdicts = frame['verdict'].fillna('no prediction yet, or none')
    for row, column in enumerate((verdicts, find_outcomes(frame)), 1):
        counts = column.value_counts(ascending=True)
        figure.add_bar(
            x=counts.to_numpy(),
            y=[f'{word} ' for word in counts.index],
            orientation='h',
            marker={'color': [OUTCOME_COLOURS.get(word, GREY) for word in counts.index]},
            text=counts.to_numpy(),
            textposition='outside',
            cliponaxis=False,
            hovertext=[OUTCOMES.get(word, word) for word in counts.index],
            hovertemplate='%{x} structures: %{hovertext}<extra></extra>',
            row=row,
            col=1,
        )
    figure.update_layout(showlegend=False)
    figure.update_xaxes(title_text='structures', row=2, col=1)
    return figure
