"""Answers of `aiida-e3relax query` as tables, CSV or JSON."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import click
import pandas as pd
from aiida import orm
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aiida_e3relax.campaign.results.spreadsheet import to_csv
from aiida_e3relax.common.messages import count_of, printable

CHAIN_TITLES = {
    'formula': 'formula',
    'state': 'state',
    'chain_pk': 'chain',
    'verdict': 'verdict',
    'raw_ionic_steps': 'steps',
    'predicted_ionic_steps': 'with',
    'energy_difference_final_meV_per_atom': 'dE',
    'same_minimum': 'same',
}
CHAIN_LEGEND = (
    'verdict: of the guard, warned where it accepted with warnings; steps: ionic steps from the raw structure; with: '
    'from the prediction; dE: final energies, predicted less raw, in meV/atom; same: whether both end in the same '
    'minimum'
)
PREDICTION_TITLES = {
    'status': 'status',
    'n_atoms': 'atoms',
    'uncertainty_A': 'uncertainty (A)',
    'distance_to_training': 'distance',
    'device': 'device',
    'job_pk': 'job',
    'message': 'message',
}
REFERENCE_TITLES = {
    'chain_pk': 'chain',
    'ended': 'ended',
    'ionic_steps': 'steps',
    'energy_final_eV_per_atom': 'energy (eV/atom)',
    'fault': 'fault',
}
SHORT = {'accepted with warnings': 'warned'}
"""What takes too much room in a table, and what stands there instead."""
NO_NODE = 'no node has this PK or UUID'
SENTENCES = ('message', 'fault')
"""The columns that stand below the table, a line each: no terminal has room for them in it."""
NAMES = ('chain_pk', 'job_pk')
"""The columns by which such a line names its row, beside the label."""


def print_frame(frame: pd.DataFrame, form: str | None, columns: Mapping[str, str], legend: str = '') -> None:
    """Print a table: all of it as `csv` or `json`, or for people the `columns`, by name, under short titles."""
    if form == 'csv':
        click.echo(to_csv(frame), nl=False)
    elif form == 'json':
        rows = frame.reset_index().to_json(orient='records', date_format='iso', double_precision=15)
        click.echo(json.dumps(json.loads(rows), indent=1))
    else:
        _print_table(frame, columns, legend)


def _print_table(frame: pd.DataFrame, columns: Mapping[str, str], legend: str) -> None:
    table = Table(box=None, header_style='bold', padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column('label', overflow='fold')
    shown = [name for name in columns if name not in SENTENCES]
    for name in shown:
        table.add_column(columns[name], overflow='fold', no_wrap=True)
    for label, row in frame[shown].iterrows():
        table.add_row(*(Text(printable(cell)) for cell in (str(label), *map(_format_value, row))))
    Console().print(table, f'{count_of(len(frame), "row")}. {legend}'.rstrip())
    for line in _list_sentences(frame, columns):
        click.echo(line)


def _list_sentences(frame: pd.DataFrame, columns: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each sentence in a table, with the row that it belongs to."""
    for name in (name for name in SENTENCES if name in columns):
        key = next(key for key in NAMES if key in columns)
        for label, row in frame[frame[name].fillna('') != ''].iterrows():
            yield printable(f'{label}, {columns[key]} {row[key]}: {row[name]}')


def _format_value(value: Any) -> str:
    """Return the text of a cell."""
    if value is None:
        return '-'
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    if isinstance(value, datetime.datetime):
        return datetime.datetime.fromtimestamp(value.timestamp()).strftime('%Y-%m-%d %H:%M')
    if isinstance(value, float):
        return '-' if math.isnan(value) else f'{value:.3g}' if abs(value) < 100 else f'{value:.0f}'
    return SHORT.get(value, str(value))


def describe_step(node: orm.Node) -> str:
    """Return the type, PK and label of a node."""
    kind = node.process_label if isinstance(node, orm.ProcessNode) else type(node).__name__
    return printable(f'{kind}<{node.pk}>{f" {node.label}" if node.label else ""}')


def ask(question: Callable[..., pd.DataFrame], *args: Any, **kwargs: Any) -> pd.DataFrame:
    """Return the answer; raises ClickException with what a ValueError says."""
    try:
        return question(*args, **kwargs)
    except ValueError as error:
        raise click.ClickException(printable(str(error))) from error
