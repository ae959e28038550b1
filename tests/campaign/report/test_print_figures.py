"""The figures of campaigns large and small: all that there is something for, and none of them empty."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ase.data import chemical_symbols
from matplotlib.image import imread

from aiida_e3relax.campaign.report.print_figures import (
    draw_figures,
    energies_figure,
    geometry_figure,
    groups_figure,
    outcomes_figure,
    steps_figure,
    time_figure,
    uncertainty_figure,
)
from aiida_e3relax.campaign.results.outcomes import pair_costs
from aiida_e3relax.campaign.results.statistics import summarise
from aiida_e3relax.campaign.results.table import NUMBER_COLUMNS, make_frame

ALL = {'outcomes', 'steps', 'time', 'groups', 'energies', 'geometry', 'uncertainty'}

pytestmark = pytest.mark.filterwarnings('error:::aiida_e3relax.campaign')  # as of an axis without length

FACTS = {'finished': True, 'code_version': '6.4.3'}
WITHOUT_PREDICTION = {
    'verdict': 'rejected',
    'predicted_finished': None,
    'predicted_code_version': None,
    'predicted_ionic_steps': np.nan,
}


def make_campaign(n: int, **changes) -> pd.DataFrame:
    """A campaign's table with n structures relaxed both ways, of which `changes` hold, too."""
    generator = np.random.default_rng(n)
    told = {'state': 'finished', 'verdict': 'accepted', 'in_sample': True, 'same_minimum': True, 'n_atoms': 2}
    told |= {f'{leg}_{key}': value for leg in ('raw', 'predicted') for key, value in FACTS.items()}
    return make_frame(
        {
            'label': f'c{number}',
            'elements': sorted(generator.choice(['Na', 'K', 'O', 'Cl', 'Ti'], 2, replace=False).tolist()),
            **dict(zip(NUMBER_COLUMNS, generator.lognormal(1, 1, len(NUMBER_COLUMNS)), strict=True)),
            **told,
            **changes,
        }
        for number in range(n)
    )


def names_of(files: list[Path]) -> set[str]:
    """Return the names of figures that are there both as a picture with ink on it and as PDF."""
    pictures = {file.stem for file in files if file.suffix == '.png' and imread(file).std() > 0.01}
    return {file.stem for file in files if file.suffix == '.pdf' and file.read_bytes()[:5] == b'%PDF-'} & pictures


@pytest.mark.parametrize(
    ('frame', 'names'),
    [
        (make_campaign(12), ALL),
        (make_campaign(1, uncertainty_A=np.nan), ALL - {'uncertainty'}),
        (make_campaign(0), set()),
        (make_campaign(1, state='running', raw_finished=None), {'outcomes'}),
        (make_campaign(2, **WITHOUT_PREDICTION), {'outcomes', 'steps', 'time', 'groups'}),
        (make_campaign(2, in_sample=False), {'outcomes'}),
        (make_campaign(12, raw_vasp_runs_from_cache=1, predicted_vasp_runs_from_cache=0), ALL - {'time'}),
        (make_campaign(12, raw_start_energy_error_meV_per_atom=np.nan), ALL - {'energies'}),
    ],
    ids=['twelve', 'one', 'none', 'running', 'rejected', 'outside the sample', 'cached', 'another scale'],
)
def test_figures_are_written_of_what_there_is(frame, names, tmp_path):
    files = draw_figures(frame, summarise(frame), tmp_path)
    assert set(files) == set(tmp_path.iterdir())
    assert names_of(files) == names


@pytest.mark.parametrize('n', [1, 100])
def test_every_panel_of_a_figure_has_something_on_it(n):
    frame = make_campaign(n)
    summary, costs = summarise(frame), pair_costs(frame)
    figures = [
        energies_figure(frame),
        steps_figure(costs['ionic_steps'], summary),
        time_figure(costs['core_time_s']),
        groups_figure(summary),
        geometry_figure(frame),
        uncertainty_figure(frame),
        outcomes_figure(summary),
    ]
    for figure in figures:
        assert figure.axes
        for axes in figure.axes:
            assert np.isfinite(axes.dataLim.get_points()).all()
            assert axes.get_xlabel() or axes.get_ylabel() or axes.get_title(loc='left')


def test_figures_show_the_numbers_of_the_summary():
    frame = make_campaign(12)
    summary, costs = summarise(frame), pair_costs(frame)
    sums = time_figure(costs['core_time_s']).axes[1]
    assert sums.lines[0].get_ydata()[-1] == pytest.approx(summary.savings['core_time_s'].saved)
    steps = summary.savings['ionic_steps']
    told = f'fewer for {steps.less}, the same for {steps.same}, more for {steps.more}'
    assert steps_figure(costs['ionic_steps'], summary).axes[1].get_title() == told
    medians = [line.get_label() for line in geometry_figure(frame).axes[0].lines]
    assert medians[0] == f'Dummy, median {frame["raw_start_coordinate_mae_A"].median():.2g}'


def test_each_energy_is_inside_its_panel():
    frame = make_campaign(1)
    axes = energies_figure(frame).axes[0]
    low, high = axes.get_ylim()
    relaxed = frame['raw_energy_final_eV_per_atom']
    for column in ('raw_energy_first_step', 'predicted_energy_first_step', 'predicted_energy_final'):
        assert low < 1e3 * (frame[f'{column}_eV_per_atom'] - relaxed).iloc[0] < high


def test_many_elements_stand_in_lines():
    frame = make_campaign(40)
    frame['elements'] = [['O', symbol] for symbol in chemical_symbols[11:51]]
    lines = [axes for axes in groups_figure(summarise(frame)).axes if axes.get_ylabel()]
    assert [len(axes.get_xticks()) for axes in lines] == [30, 11]
