"""`aiida-e3relax query`: questions to the provenance graph, answered as tables, CSV or JSON."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from aiida_e3relax.cli.extras import require_report
from aiida_e3relax.cli.profile import profile_option, use_profile
from aiida_e3relax.common.messages import printable
from aiida_e3relax.workflows.allowed_values import VERDICTS

MODEL_HELP = (
    '`default`, a checkpoint file, the label, PK or UUID of a model, or its content hash or how that begins (after '
    '`sha256:` where these are digits alone)'
)


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
    use_profile(profile)

    from aiida_e3relax.campaign.results.table import campaign_frame
    from aiida_e3relax.cli.query_output import CHAIN_LEGEND, CHAIN_TITLES, ask, print_frame

    print_frame(ask(campaign_frame, name), form, CHAIN_TITLES, CHAIN_LEGEND)


@query.command('chains')
@click.option(
    '--element', 'elements', multiple=True, help='Of structures with this element; may be given several times.'
)
@click.option('--atoms', metavar='N or N-M', help='Of structures with so many atoms.')
@click.option('--model', metavar='MODEL', help=f'With predictions of this checkpoint: {MODEL_HELP}.')
@click.option('--device', help='With predictions made on it: cpu, cuda, cuda:0 ...')
@click.option('--verdict', type=click.Choice(VERDICTS), help='Of the guard.')
@click.option('--campaign', metavar='NAME', help='Of this campaign alone.')
@output_options
def query_chains(
    elements: tuple[str, ...], atoms: str | None, form: str | None, profile: str | None, **choice: Any
) -> None:
    """Print the chains in the profile for which all of the options hold."""
    use_profile(profile)

    from aiida_e3relax.campaign.results.queries import find_chains
    from aiida_e3relax.cli.query_output import CHAIN_LEGEND, CHAIN_TITLES, ask, print_frame

    n_atoms = _read_range(atoms) if atoms else None
    if choice['model'] is not None:
        choice['model'] = find_hash(choice['model'])
    frame = ask(find_chains, elements=elements, n_atoms=n_atoms, **choice)
    print_frame(frame, form, CHAIN_TITLES, CHAIN_LEGEND)


@query.command('origin')
@click.argument('node')
@profile_option
def query_origin(node: str, profile: str | None) -> None:
    """Print which checkpoint or potential the result NODE goes back to, and by what steps.

    NODE is the PK or UUID of a structure, of a Dict with energies, or of a chain, for the structure that it relaxed.
    """
    use_profile(profile)

    from aiida import orm

    from aiida_e3relax.campaign.results.queries import trace_origin
    from aiida_e3relax.cli.nodes import find_node
    from aiida_e3relax.cli.query_output import NO_NODE, describe_step

    result = find_node(node, NO_NODE)
    if isinstance(result, orm.WorkChainNode):
        if 'structure' not in result.outputs:
            raise click.ClickException(f'{result.process_label}<{result.pk}> has no relaxed structure to trace')
        result = result.outputs.structure
    if not isinstance(result, orm.Data):
        raise click.ClickException(f'{node}: expected a result or a chain, found {result}')
    origin = trace_origin(result)
    sources = []
    if origin.model is not None:
        sources.append(f'the checkpoint {printable(origin.model.name)}, {origin.model.content_hash}')
    if origin.potential is not None:
        facts = [f'{name} {origin.potential[name]}' for name in ('version', 'weights') if origin.potential.get(name)]
        facts += filter(None, [origin.potential.get('content_hash')])
        if origin.weights is not None:
            facts.append(describe_step(origin.weights))
        sources.append(printable(f'the potential {origin.potential["potential"]} ({", ".join(facts)})'))
    if not sources:
        told = 'no network had a part in it, nor a potential; VASP started from the raw structure.'
        click.echo(f'{describe_step(result)}: {told}')
        return
    click.echo(f'It goes back to {", and ".join(sources)}:')
    for step in origin.path:
        click.echo(f'  {describe_step(step)}')


@query.command('predictions')
@click.argument('model')
@output_options
def query_predictions(model: str, form: str | None, profile: str | None) -> None:
    """Print all predictions of the checkpoint MODEL.

    MODEL is `default`, a checkpoint file, the label, PK or UUID of a model, or its content hash or how that begins
    (after `sha256:` where these are digits alone).
    """
    use_profile(profile)

    from aiida_e3relax.campaign.results.queries import find_predictions
    from aiida_e3relax.cli.query_output import PREDICTION_TITLES, ask, print_frame

    print_frame(ask(find_predictions, find_hash(model)), form, PREDICTION_TITLES)


@query.command('references')
@click.argument('node')
@output_options
def query_references(node: str, form: str | None, profile: str | None) -> None:
    """Print the finished relaxations of a raw structure that could serve as reference leg.

    NODE is the PK or UUID of a structure, or of a chain: then `fault` says why a relaxation cannot be compared with
    that chain. The UUID of one without a fault can be given as `--reference-leg`.
    """
    use_profile(profile)

    from aiida import orm

    from aiida_e3relax.campaign.results.queries import find_reference_legs, find_references_of
    from aiida_e3relax.cli.nodes import find_node
    from aiida_e3relax.cli.query_output import NO_NODE, REFERENCE_TITLES, print_frame
    from aiida_e3relax.workflows.comparison.reference import CHAIN

    found = find_node(node, NO_NODE)
    if isinstance(found, orm.StructureData):
        frame = find_reference_legs(found)
    elif isinstance(found, orm.WorkChainNode) and found.process_label == CHAIN:
        frame = find_references_of(found)
    else:
        kind = getattr(found, 'process_label', None) or type(found).__name__
        raise click.ClickException(f'{node}: expected a structure or an {CHAIN}, found {kind}')
    print_frame(frame, form, REFERENCE_TITLES)


def find_hash(text: str) -> str:
    """Return the content hash of a model that a person names, or how it begins; raises ClickException for none.

    A label counts before the beginning of a hash that reads the same. Nothing is stored.
    """
    from aiida_e3relax.campaign.results.queries import HASH_PREFIX, has_label, has_model
    from aiida_e3relax.cli.chain_choices import choose_model
    from aiida_e3relax.data.model import E3RelaxModelData
    from aiida_e3relax.gnn.checkpoints import DEFAULT_CHECKPOINT

    file = DEFAULT_CHECKPOINT if text == 'default' else Path(text)
    if text.startswith(HASH_PREFIX) or (not (text.isdigit() or file.is_file() or has_label(text)) and has_model(text)):
        return text
    try:
        return (E3RelaxModelData(file) if file.is_file() else choose_model(text)).content_hash
    except ValueError as error:
        raise click.ClickException(str(error)) from error


def _read_range(text: str) -> tuple[int, int]:
    """Return the ends of `N-M`, or N twice of `N`; raises BadParameter for anything else."""
    first, _, last = text.partition('-')
    try:
        lowest, highest = int(first), int(last or first)
    except ValueError as error:
        raise click.BadParameter(f'expected a number of atoms, such as 4 or 2-8, found {text!r}') from error
    if lowest > highest:
        raise click.BadParameter(f'expected the smaller number of atoms first, as {highest}-{lowest}, found {text!r}')
    return lowest, highest
