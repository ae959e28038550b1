"""The files of a report."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import pandas as pd

from aiida_e3relax.campaign.output import written_together
from aiida_e3relax.campaign.report.contents import Contents
from aiida_e3relax.campaign.report.gather import gather_contents
from aiida_e3relax.campaign.report.learning_plot import has_curve, learning_figure
from aiida_e3relax.campaign.report.page import render_page
from aiida_e3relax.campaign.report.print_figures import (
    arms_figure,
    describe_stand_in,
    draw_figures,
    save_figures,
)
from aiida_e3relax.campaign.results.spreadsheet import to_csv

PAGE, TABLE = 'report.html', 'campaign.csv'


def write_report(name: str, folder: Path, classes: Mapping[str, str] | None = None) -> Path:
    """Write the report of the campaign `name` into `folder` and return its page.

    The folder is made where it does not exist; files of an earlier report in it are replaced, all at the end or none.
    It gets `report.html`, which needs no other file, the table as `campaign.csv`, the same with summary and settings as
    `campaign.json`, and `figures/` for print. `classes` are those of the crystals by label, in the place of their
    chemistry.

    Raises
    ------
    ValueError
        When there is no campaign of that name, and where a crystal has no class.
    OSError
        When the files cannot be written.
    """
    return write_contents(gather_contents(name, classes), folder)


def write_contents(contents: Contents, folder: Path) -> Path:
    """Write a report of `contents`, which need not come from a graph, and return its page."""
    with written_together(folder, 'report') as partial:
        (partial / PAGE).write_text(render_page(contents, datetime.now()), encoding='utf-8')
        (partial / TABLE).write_text(to_csv(_flatten(contents.frame)), encoding='utf-8')
        (partial / 'campaign.json').write_text(_to_json(contents), encoding='utf-8')
        figures = partial / 'figures'
        figures.mkdir()
        draw_figures(contents.frame, contents.summary, figures)
        if contents.arms and contents.arms.n:
            arms = contents.arms
            save_figures({'arms': lambda: arms_figure(arms)}, figures, describe_stand_in(arms.engines))
        if (learning := contents.learning) and has_curve(learning):
            save_figures({'learning': lambda: learning_figure(learning)}, figures, describe_stand_in(learning.engines))
    return folder / PAGE


def _flatten(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose lists have become text."""
    joints = {'elements': ' ', 'reasons': '; ', 'remarks': '; '}
    return frame.assign(
        **{column: [joint.join(entries or ()) for entries in frame[column]] for column, joint in joints.items()}
    )


def _to_json(contents: Contents) -> str:
    """Return table, summary and settings as JSON, null where a value is missing."""
    rows = json.loads(contents.frame.reset_index().to_json(orient='records', double_precision=15))
    content = {
        'name': contents.name,
        'settings_uuid': contents.settings_uuid,
        'settings': dict(contents.settings),
        'summary': contents.summary.to_dict(),
        'learning': dataclasses.asdict(contents.learning) if contents.learning else None,
        'structures': rows,
    }
    return json.dumps(content, indent=1)
