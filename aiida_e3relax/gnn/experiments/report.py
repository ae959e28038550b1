"""What an experiment writes beside its runs: tables and figures."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from aiida_e3relax.crystals.datasets.pairs_file import read_pairs
from aiida_e3relax.gnn.experiments.markdown import markdown
from aiida_e3relax.gnn.experiments.plan import Experiment
from aiida_e3relax.gnn.experiments.table import outcomes, results_rows, table_rows, write_csv


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


def write_figures(experiment: Experiment) -> list[Path]:
    """Write the figures of what has been measured where the extra `plots` is installed, and return their paths."""
    if not all(map(importlib.util.find_spec, ('matplotlib', 'adjustText'))):
        return []
    from aiida_e3relax.gnn.experiments.crystals import draw_crystals, outcome_to_show
    from aiida_e3relax.gnn.experiments.figures import (
        draw_comparison,
        draw_distributions,
        draw_sweep,
        draw_violins,
        errors_by_row,
        measures_in_errors,
        measures_of,
    )

    found = outcomes(experiment)
    rows = table_rows(experiment, found)
    written = []

    def path(kind: str, data: str, split: str) -> Path:
        several = len(experiment.measurement.splits) > 1
        written.append(experiment.output / f'{kind}-{data}{f"-{split}" if several else ""}.png')
        return written[-1]

    for file, data in dict.fromkeys((run.file, run.data) for run in experiment.runs):
        shown = outcome_to_show(found, data, experiment.reference)
        if shown is None:
            continue
        pairs = read_pairs(file)
        for split in experiment.measurement.splits:
            part = [row for row in rows if row['data'] == data and row['split'] == split]
            for source in (sources := list(dict.fromkeys(row['source'] for row in part))):
                name = data if len(sources) == 1 else f'{data}-{source}'
                draw_summary = draw_sweep if experiment.kind == 'sweep' else draw_comparison
                if measures_of(of_source := [row for row in part if row['source'] == source]):
                    draw_summary(experiment, of_source, path(experiment.kind, name, split))
            errors = errors_by_row(found, data, split)
            if measures_in_errors(errors):
                draw_violins(experiment, errors, f'{data}, {split} split', path('violins', data, split))
                draw_distributions(experiment, errors, f'{data}, {split} split', path('distributions', data, split))
            draw_crystals(shown, pairs, split, path('crystals', data, split))
    return written
