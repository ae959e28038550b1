"""The files of a report, and what the page says, without a browser."""

from __future__ import annotations

import base64
import csv
import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.offline
import pytest

from aiida_e3relax.campaign.report import page as page_module
from aiida_e3relax.campaign.report.contents import STAGES
from aiida_e3relax.campaign.report.failures import explain_failures
from aiida_e3relax.campaign.report.files import write_contents
from aiida_e3relax.campaign.report.key_figures import list_key_figures
from aiida_e3relax.campaign.report.packing import pack_crystals, pack_trajectories
from aiida_e3relax.campaign.report.page import LIBRARIES, render_page, to_json
from aiida_e3relax.campaign.report.plots import PLOT_KINDS, draw_plots
from aiida_e3relax.campaign.results.statistics import summarise
from aiida_e3relax.campaign.results.table import make_frame
from aiida_e3relax.crystals.structures import make_crystals
from tests.campaign.report.synthetic import make_contents

NOW = datetime(2026, 11, 21)


@pytest.fixture(scope='module')
def unfinished():
    """A campaign of which nothing has run yet."""
    rows = [
        {'label': label, 'state': 'waiting', 'formula': 'MgO', 'n_atoms': 2, 'elements': ['Mg', 'O'], 'in_sample': True}
        for label in ('a', 'b')
    ]
    frame = make_frame(rows)
    crystals = make_contents(2).structures['raw']
    none = make_crystals([], [], [])
    structures = {'raw': replace(crystals, labels=np.array(['a', 'b'])), 'predicted': none, 'relaxed': none}
    return replace(make_contents(2), frame=frame, summary=summarise(frame), trajectories={}, structures=structures)


def test_a_report_is_a_page_tables_and_figures(tmp_path: Path):
    contents = make_contents(12)
    page = write_contents(contents, tmp_path / 'deep' / 'folder')
    assert page.stat().st_size < 4e6
    table = pd.read_csv(page.parent / 'campaign.csv', index_col='label', float_precision='round_trip')
    assert list(table.index) == list(contents.frame.index)
    np.testing.assert_array_equal(table['raw_core_time_s'], contents.frame['raw_core_time_s'])
    assert table['elements'].iloc[0] == ' '.join(contents.frame['elements'].iloc[0])
    told = json.loads((page.parent / 'campaign.json').read_text())
    assert [row['label'] for row in told['structures']] == list(contents.frame.index)
    assert told['summary']['structures'] == 12
    assert told['settings_uuid'] == contents.settings_uuid
    assert {path.suffix for path in (page.parent / 'figures').iterdir()} == {'.png', '.pdf'}


def test_the_page_says_that_a_stand_in_computed():
    contents = make_contents(12)
    assert 'Not computed by VASP' in render_page(contents, NOW)
    frame = contents.frame.assign(raw_stand_in=None, predicted_stand_in=None)
    page = render_page(replace(contents, frame=frame, summary=summarise(frame)), NOW)
    assert 'Not computed by VASP' not in page
    assert 'VASP 6.4.2 then relaxed' in page


@pytest.mark.parametrize(
    ('pre_relaxer', 'told'),
    [
        ('network', 'A graph network (content hash 9d3f9d3f9d3f…) predicted the relaxed form of each raw crystal in'),
        ('chgnet', '<p>The potential chgnet relaxed each raw crystal. A guard'),
        ('network+chgnet', 'in one pass. The potential chgnet relaxed what it predicted. A guard'),
        (None, 'Nothing was predicted.'),
    ],
)
def test_the_page_says_what_made_the_starts(pre_relaxer: str | None, told: str, monkeypatch):
    monkeypatch.setattr(page_module, 'draw_plots', lambda *_: [])
    contents = make_contents(12)
    model = contents.frame['model'] if pre_relaxer and 'network' in pre_relaxer else None
    frame = contents.frame.assign(pre_relaxer=pre_relaxer, model=model)
    assert told in render_page(replace(contents, frame=frame, summary=summarise(frame)), NOW)


def test_a_campaign_that_has_not_begun_has_a_report(unfinished, tmp_path: Path):
    page = write_contents(unfinished, tmp_path).read_text()
    assert 'Not done yet' in page
    drawn = [plot.kind.key for plot in draw_plots(unfinished.frame, unfinished.summary) if plot.figure]
    assert drawn == ['outcomes']
    for kind in PLOT_KINDS:
        assert kind.key == 'outcomes' or kind.missing in page


@pytest.mark.parametrize('n_structures', [12, 300])
def test_all_that_a_campaign_has_is_drawn(n_structures: int):
    contents = make_contents(n_structures)
    plots = {plot.kind.key: plot for plot in draw_plots(contents.frame, contents.summary)}
    assert all(plot.figure for plot in plots.values())
    assert plots['steps'].count == contents.summary.outcomes['compared']
    assert plots['elements'].count == contents.summary.savings['ionic_steps'].percent.n
    assert plots['outcomes'].count == n_structures


def test_histograms_count_every_crystal_even_one_that_starts_at_its_end():
    contents = make_contents(12)
    frame = contents.frame.copy()
    first = frame.index[frame['same_minimum'].notna()][0]
    frame.loc[first, 'predicted_start_energy_error_meV_per_atom'] = 0.0
    plot = next(plot for plot in draw_plots(frame, contents.summary) if plot.kind.key == 'energy-errors')
    assert plot.figure is not None
    assert int(np.sum(plot.figure.data[1].y)) == frame['predicted_start_energy_error_meV_per_atom'].notna().sum()


def test_bars_of_a_histogram_stand_side_by_side():
    contents = make_contents(12)
    plot = next(plot for plot in draw_plots(contents.frame, contents.summary) if plot.kind.key == 'energy-errors')
    assert plot.figure is not None
    for bars in plot.figure.data:
        middle, half = np.array(bars.x), np.array(bars.width) / 2
        np.testing.assert_allclose((middle + half)[:-1], (middle - half)[1:])
        np.testing.assert_allclose(np.column_stack([middle - half, middle + half]), bars.customdata)


def test_times_of_legs_from_the_cache_are_left_out():
    contents = make_contents(12)
    frame = contents.frame.assign(raw_vasp_runs_from_cache=1.0, predicted_vasp_runs_from_cache=0.0)
    plot = next(plot for plot in draw_plots(frame, contents.summary) if plot.kind.key == 'times')
    assert plot.figure is None


def test_failures_are_counted_by_exit_code_and_have_a_remedy():
    contents = make_contents(500)
    failures = explain_failures(contents.summary)
    assert sum(failure.count for failure in failures) == len(contents.summary.failures)
    by_code = {failure.exit_status: failure for failure in failures}
    assert by_code[410].count == (contents.frame['exit_status'] == 410).sum()
    assert 'verdi calcjob outputcat' in by_code[410].remedy


def test_key_figures_agree_with_the_summary():
    summary = make_contents(300).summary
    figures = {figure.title: figure for figure in list_key_figures(summary)}
    percent = summary.savings['ionic_steps'].percent
    assert figures['ionic steps saved'].value == f'{percent.value:.0f}'
    assert f'{percent.low:.0f} to {percent.high:.0f}, n = {percent.n}' in figures['ionic steps saved'].note


def test_crystals_and_trajectories_survive_packing():
    contents = make_contents(12)
    crystals = contents.structures['relaxed']
    packed = pack_crystals(crystals)
    positions = np.frombuffer(base64.b64decode(packed['positions']), '<f4').reshape(-1, 3)
    assert np.abs(positions - crystals.positions).max() < 1e-5
    label = next(label for label, legs in contents.trajectories.items() if len(legs) == 2)
    legs = contents.trajectories[label]
    packed = pack_trajectories({label: legs})
    lowest = min(trajectory.energies.min() for trajectory in legs.values())
    for leg, trajectory in legs.items():
        energies = np.frombuffer(base64.b64decode(packed[leg]['energies']), '<f4')
        assert np.abs(energies - 1e3 * (trajectory.energies - lowest)).max() < 1e-3


def test_texts_from_a_graph_are_text_on_the_page_and_in_the_table(tmp_path: Path):
    contents = make_contents(12)
    hostile = '=1+1</script><svg onload=alert(1)><script>alert(1)</script>\x1b[31m'
    frame = contents.frame.rename(index={contents.frame.index[0]: hostile}).copy()
    frame.loc[frame['state'] == 'failed', 'exit_message'] = hostile
    summary = summarise(frame)
    page = write_contents(replace(contents, name=hostile, frame=frame, summary=summary, trajectories={}), tmp_path)
    html = page.read_text()
    assert '<script>alert' not in html
    assert '<svg onload' not in html
    for directive in ("form-action 'none'", "base-uri 'none'", "default-src 'none'"):
        assert directive in html.partition('Content-Security-Policy')[2].partition('>')[0]
    rows = list(csv.reader((tmp_path / 'campaign.csv').open(newline='')))
    assert rows[1][0].startswith("'=1+1</script>")
    assert all(cell.isprintable() for row in rows for cell in row)
    assert json.loads((tmp_path / 'campaign.json').read_text())['structures'][0]['label'] == hostile


def test_data_cannot_close_the_script_that_holds_it():
    assert '</script' not in to_json({'label': '</script><script>alert(1)</script>'})


def test_a_large_page_is_not_heavy():
    assert len(render_page(make_contents(500), NOW)) < 4.5e6


def test_every_label_of_the_structures_is_a_row():
    contents = make_contents(50)
    for stage in STAGES:
        assert set(contents.structures[stage].labels) <= set(contents.frame.index)


def test_the_page_draws_with_the_plotly_that_the_figures_are_made_for():
    head = (LIBRARIES / 'plotly-cartesian.min.js').read_text()[:200]
    assert f'v{plotly.offline.get_plotlyjs_version()}\n' in head
