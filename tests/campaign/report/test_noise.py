"""What is below the noise of the numbers is no signal, and what was saved is counted alike wherever it stands."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from aiida_e3relax.campaign.report.columns import make_rows
from aiida_e3relax.campaign.report.contents import Contents
from aiida_e3relax.campaign.report.key_figures import list_key_figures
from aiida_e3relax.campaign.report.plots import draw_plots
from aiida_e3relax.campaign.results.headline import format_headline
from aiida_e3relax.campaign.results.noise import format_energy, without_noise
from aiida_e3relax.campaign.results.statistics import summarise
from tests.campaign.report.synthetic import make_contents

GEOMETRY = ('start_coordinate_mae_A', 'start_cell_shape_deviation_A2', 'start_volume_error_A3')
LEGS = ('raw', 'predicted')


@pytest.fixture(scope='module')
def quiet() -> Contents:
    """A campaign whose starts and ends differ by rounding alone."""
    contents = make_contents(30)
    frame = contents.frame.copy()
    for leg in LEGS:
        for measure in GEOMETRY:
            frame[f'{leg}_{measure}'] *= 1e-13
        frame[f'{leg}_start_energy_error_meV_per_atom'] *= 1e-9
        frame[f'{leg}_energy_first_step_eV_per_atom'] = frame[f'{leg}_energy_final_eV_per_atom'] + 1e-9
    frame['energy_difference_final_meV_per_atom'] *= 1e-10
    return dataclasses.replace(contents, frame=frame, summary=summarise(frame))


def test_geometries_that_differ_by_rounding_are_drawn_at_zero(quiet):
    figures = {plot.kind.key: plot.figure for plot in draw_plots(quiet.frame, quiet.summary)}
    for trace in figures['geometry-errors'].data:
        assert set(trace.y) == {0.0}
    axes = [figures['geometry-errors'].layout[name] for name in ('yaxis', 'yaxis2', 'yaxis3')]
    assert [axis.range[1] for axis in axes] == pytest.approx([0.01, 0.1, 0.1])
    assert {axis.exponentformat for axis in axes} == {'none'}
    assert set(figures['uncertainty'].data[0].y) == {0.0}


def test_energies_that_differ_by_rounding_span_no_axis(quiet):
    figures = {plot.kind.key: plot.figure for plot in draw_plots(quiet.frame, quiet.summary)}
    above, total = figures['energies'].layout.yaxis, figures['energies'].layout.yaxis2
    assert above.ticktext[0] == '≤ 0.1'
    assert 10 ** above.range[1] >= 1
    assert np.ptp(total.range) == pytest.approx(0.002)
    assert figures['energy-errors'].layout.xaxis.ticktext[0] == '≤ 0.1'


def test_words_and_numbers_of_it_say_that_it_is_below_the_noise(quiet):
    figures = {figure.title: figure.value for figure in list_key_figures(quiet.summary)}
    assert figures['|ΔE| at the end'] == '< 0.1'
    assert figures['error of the start'] == '< 0.1 → < 0.1'
    assert 'median |dE| < 0.1 meV/atom' in format_headline(quiet.summary)
    table = pd.DataFrame(**make_rows(quiet.frame))
    assert set(table['energy_difference_final_meV_per_atom'].dropna()) == {0.0}


def test_signal_is_left_as_it_is():
    contents = make_contents(30)
    table = pd.DataFrame(**make_rows(contents.frame)).set_index('label')
    column = 'predicted_start_energy_error_meV_per_atom'
    loud = contents.frame[column][contents.frame[column] > 0.1]
    np.testing.assert_allclose(table[column][loud.index].astype(float), loud.astype(float), atol=1e-6)
    assert without_noise(pd.Series([0.2, -0.2, 0.05, np.nan]), 0.1).fillna(9).tolist() == [0.2, -0.2, 0.0, 9.0]
    assert (format_energy(0.099), format_energy(0.1), format_energy(12.34)) == ('< 0.1', '0.1', '12')


def test_the_table_adds_up_to_the_headline():
    contents = make_contents(60)
    table = pd.DataFrame(**make_rows(contents.frame))
    saving = contents.summary.savings['core_time_s']
    assert table['core_time_saved_s'].sum() == pytest.approx(saving.saved, abs=1e-3)
    rejected = table[(table['verdict'] == 'rejected') & (table['state'] == 'finished')]
    assert len(rejected)
    np.testing.assert_allclose(rejected['core_time_saved_s'], -0.1)
    np.testing.assert_allclose(rejected['ionic_steps_saved_percent'], 0.0)


def test_the_plot_of_times_counts_the_network():
    contents = make_contents(30)
    figure = next(plot for plot in draw_plots(contents.frame, contents.summary) if plot.kind.key == 'times').figure
    shown = pd.concat([pd.Series(trace.y, trace.customdata) for trace in figure.data if trace.mode == 'markers'])
    frame = contents.frame.loc[shown.index]
    expected = frame['predicted_core_time_s'] + frame['network_wall_time_s']
    np.testing.assert_allclose(shown.astype(float), expected.astype(float))
