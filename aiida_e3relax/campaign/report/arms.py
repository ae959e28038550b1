"""The files of a comparison of arms."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from pathlib import Path

from aiida_e3relax.campaign.output import written_together
from aiida_e3relax.campaign.report.print_figures import arms_figure, describe_stand_in, save_figures
from aiida_e3relax.campaign.results.arm_tables import describe_arms, format_markdown, tabulate_arms, tabulate_crystals
from aiida_e3relax.campaign.results.arms import ArmsComparison
from aiida_e3relax.campaign.results.spreadsheet import to_csv

TEXT, TABLE, FIGURE = 'compare.md', 'compare.csv', 'compare'


def write_comparison(comparison: ArmsComparison, names: Iterable[str], folder: Path) -> list[Path]:
    """Write a comparison of the campaigns `names` into `folder` and return the files.

    They are `TEXT`, with all tables, `TABLE`, with one row a crystal, and `FIGURE` as PNG and PDF, where there is a
    crystal to show. All get their place at the end or none.

    Raises OSError when they cannot be written.
    """
    title = f'Arms of {" and ".join(names)}'
    tables = [*tabulate_arms(comparison), tabulate_crystals(comparison)]
    with written_together(folder, 'compare') as partial:
        (partial / TEXT).write_text(format_markdown(title, describe_arms(comparison), tables), encoding='utf-8')
        (partial / TABLE).write_text(to_csv(comparison.by_crystal), encoding='utf-8')
        drawings = {FIGURE: lambda: arms_figure(comparison)} if comparison.n else {}
        figures = save_figures(drawings, partial, describe_stand_in(comparison.engines))
    return [folder / name for name in (TEXT, TABLE, *(figure.name for figure in figures))]


def draw_inline(comparison: ArmsComparison) -> str:
    """Return the figure as a PNG that a page holds within itself."""
    buffer = io.BytesIO()
    arms_figure(comparison).savefig(buffer, dpi=110)
    return f'data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}'
