"""The files of a report."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pandas as pd

from aiida_e3relax.campaign.figures import draw_figures
from aiida_e3relax.campaign.report.contents import Contents
from aiida_e3relax.campaign.report.gather import gather_contents
from aiida_e3relax.campaign.report.page import render_page


def write_report(name: str, folder: Path) -> Path:
    """Write the report of the campaign `name` into `folder` and return its page.

    The folder is made where it does not exist; files of an earlier report in it are replaced. It gets `report.html`,
    which needs no other file, the table as `campaign.csv`, the same with summary and settings as `campaign.json`, and
    `figures/` for print.

    Raises
    ------
    ValueError
        When there is no campaign of that name.
    """
    return write_contents(gather_contents(name), folder)


def write_contents(contents: Contents, folder: Path) -> Path:
    """Write a report of `contents`, which need not come from a graph, and return its page."""
    figures = folder / 'figures'
    figures.mkdir(parents=True, exist_ok=True)
    page = folder / 'report.html'
    page.write_text(render_page(contents, datetime.now()), encoding='utf-8')
    _flatten(contents.frame).to_csv(folder / 'campaign.csv')
    (folder / 'campaign.json').write_text(_to_json(contents), encoding='utf-8')
    draw_figures(contents.frame, contents.summary, figures)
    return page


def _flatten(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose lists have become text."""
    joints = {'elements': ' ', 'reasons': '; ', 'remarks': '; '}
    return frame.assign(
        **{column: [joint.join(entries or ()) for entries in frame[column]] for column, joint in joints.items()}
    )


def _to_json(contents: Contents) -> str:
    """Return table, summary and settings as JSON, null where a value is missing."""
    rows = json.loads(contents.frame.reset_index().to_json(orient='records', double_precision=15))
    told = {
        'name': contents.name,
        'settings_uuid': contents.settings_uuid,
        'settings': dict(contents.settings),
        'summary': contents.summary.to_dict(),
        'structures': rows,
    }
    return json.dumps(told, indent=1)
