"""`aiida-e3relax query`: questions to the provenance graph, answered as tables, CSV or JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click
from aiida import orm
from aiida.common.exceptions import NotExistent
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aiida_e3relax.cli.extras import require_report
from aiida_e3relax.cli.profile import profile_option, use_profile
from aiida_e3relax.common.messages import printable
from aiida_e3relax.workflows.comparison.reference import CHAIN

if TYPE_CHECKING:
    import pandas as pd

CHAIN_COLUMNS = {
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
PREDICTION_COLUMNS = {
    'status': 'status',
    'n_atoms': 'atoms',
    'uncertainty_A': 'uncertainty (A)',
    'device': 'device',
    'job_pk': 'job',
    'message': 'message',
}
REFERENCE_COLUMNS = {
    'chain_pk': 'chain',
    'ended': 'ended',
    'ionic_steps': 'steps',
    'energy_final_eV_per_atom': 'energy (eV/atom)',
    'fault': 'fault',
}
SHORT = {'accepted with warnings': 'warned'}
"""What takes too much room in a table, and what stands there instead."""
SENTENCES = ('message', 'fault')
"""The columns that a narrow terminal may break, beside the label."""


@click.group()
def query() -> None:
    """Ask the provenance graph: for the chains of a campaign, where a result comes from, and what can be used again.

    Tables show the columns that matter most; --csv and --json give all of them.
    """
    require_report()


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of how a table is printed, and of the profile."""
    for option in (
        profile_option,
        click.option('--json', 'form', flag_value='json', help='Print all columns as JSON.'),
        click.option('--csv', 'form', flag_value='csv', help='Print all columns as CSV.'),
    ):
        command = option(command)
    return command


@query.command('campaign')
@click.argument('name')
@output_options
def query_campaign(name: str, form: str | None, profile: str | None) -> None:
    """Print the campaign NAME, one row a structure, failed and waiting ones included."""
    from aiida_e3relax.campaign.results.table import campaign_frame

    use_profile(profile)
    print_frame(_ask(campaign_frame, name), form, CHAIN_COLUMNS, CHAIN_LEGEND)


@query.command('chains')
@click.option('--element', 'elements', multiple=True, help='Of structures with this element; may be given repeatedly.')
@click.option('--atoms', metavar='N or N-M', help='Of structures with so many atoms.')
@click.option('--model', metavar='HASH', help='With predictions of the checkpoint whose hash begins so.')
@click.option('--device', help='With predictions made on it: cpu, cuda, cuda:0 ...')
@click.option('--verdict', type=click.Choice(['accepted', 'accepted with warnings', 'rejected']), help='Of the guard.')
@click.option('--campaign', metavar='NAME', help='Of this campaign alone.')
@output_options
def query_chains(
    elements: tuple[str, ...], atoms: str | None, form: str | None, profile: str | None, **choice: Any
) -> None:
    """Print the chains in the profile for which all of the options hold."""
    from aiida_e3relax.campaign.results.queries import find_chains

    use_profile(profile)
    n_atoms = _read_range(atoms) if atoms else None
    frame = _ask(find_chains, elements=elements, n_atoms=n_atoms, **choice)
    print_frame(frame, form, CHAIN_COLUMNS, CHAIN_LEGEND)


@query.command('origin')
@click.argument('node')
@profile_option
def query_origin(node: str, profile: str | None) -> None:
    """Print which checkpoint the result NODE goes back to, and by what steps.

    NODE is the PK or UUID of a structure, of a Dict with energies, or of a chain, for the structure that it relaxed.
    """
    from aiida_e3relax.campaign.results.queries import trace_origin

    use_profile(profile)
    result = _load(node)
    if isinstance(result, orm.WorkChainNode):
        if 'structure' not in result.outputs:
            raise click.ClickException(f'{result.process_label}<{result.pk}> has no relaxed structure to trace')
        result = result.outputs.structure
    if not isinstance(result, orm.Data):
        raise click.ClickException(f'{node}: expected a result or a chain, found {result}')
    origin = trace_origin(result)
    if origin.model is None:
        click.echo(f'{_tell_node(result)}: no network had a part in it; VASP started from the raw structure.')
        return
    click.echo(f'It goes back to the checkpoint {printable(origin.model.name)}, {origin.model.content_hash}:')
    for step in origin.path:
        click.echo(f'  {_tell_node(step)}')


@query.command('predictions')
@click.argument('model')
@output_options
def query_predictions(model: str, form: str | None, profile: str | None) -> None:
    """Print all predictions of the checkpoint MODEL: its content hash, or how that begins."""
    from aiida_e3relax.campaign.results.queries import find_predictions

    use_profile(profile)
    print_frame(find_predictions(model), form, PREDICTION_COLUMNS)


@query.command('references')
@click.argument('node')
@output_options
def query_references(node: str, form: str | None, profile: str | None) -> None:
    """Print the finished relaxations of a raw structure that could serve as reference leg.

    NODE is the PK or UUID of a structure, or of a chain: then `fault` says what speaks against each, for the inputs of
    that chain. The UUID of one without a fault can be given as `--reference-leg`.
    """
    from aiida_e3relax.campaign.results.queries import find_reference_legs, find_references_of

    use_profile(profile)
    found = _load(node)
    if isinstance(found, orm.StructureData):
        frame = find_reference_legs(found)
    elif isinstance(found, orm.WorkChainNode) and found.process_label == CHAIN:
        frame = find_references_of(found)
    else:
        raise click.ClickException(f'{node}: expected a structure or an {CHAIN}, found {found}')
    print_frame(frame, form, REFERENCE_COLUMNS)


def print_frame(frame: pd.DataFrame, form: str | None, columns: Mapping[str, str], legend: str = '') -> None:
    """Print a table: all of it as `csv` or `json`, or for people the `columns`, by name, under short titles."""
    if form == 'csv':
        from aiida_e3relax.campaign.results.spreadsheet import to_csv

        click.echo(to_csv(frame), nl=False)
    elif form == 'json':
        told = frame.reset_index().to_json(orient='records', date_format='iso', double_precision=15)
        click.echo(json.dumps(json.loads(told), indent=1))
    else:
        table = Table(box=None, header_style='bold', padding=(0, 1, 0, 0), pad_edge=False)
        table.add_column('label', overflow='fold')
        for name, title in columns.items():
            table.add_column(title, overflow='fold', no_wrap=name not in SENTENCES)
        for label, row in frame[list(columns)].iterrows():
            table.add_row(*(Text(printable(cell)) for cell in (str(label), *map(_tell_value, row))))
        Console().print(table, f'{len(frame)} row{"" if len(frame) == 1 else "s"}. {legend}')


def _tell_value(value: Any) -> str:
    if value is None:
        return '-'
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    if isinstance(value, float):
        return '-' if math.isnan(value) else f'{value:.3g}' if abs(value) < 100 else f'{value:.0f}'
    return SHORT.get(value, str(value))


def _tell_node(node: orm.Node) -> str:
    kind = node.process_label if isinstance(node, orm.ProcessNode) else type(node).__name__
    return printable(f'{kind}<{node.pk}>{f" {node.label}" if node.label else ""}')


def _ask(question: Callable[..., pd.DataFrame], *args: Any, **kwargs: Any) -> pd.DataFrame:
    """Return the answer; raises ClickException with what a ValueError says."""
    try:
        return question(*args, **kwargs)
    except ValueError as error:
        raise click.ClickException(printable(str(error))) from error


def _read_range(text: str) -> tuple[int, int]:
    """Return the ends of `N-M`, or N twice of `N`; raises BadParameter for anything else."""
    first, _, last = text.partition('-')
    try:
        return int(first), int(last or first)
    except ValueError as error:
        raise click.BadParameter(f'expected a number of atoms, such as 4 or 2-8, found {text!r}') from error


def _load(text: str) -> Any:
    try:
        return orm.load_node(text)
    except (NotExistent, ValueError) as error:
        raise click.ClickException(f'{text}: no node has this PK or UUID') from error
