"""`aiida-e3relax model`: networks of a profile, as files and back, and weights of potentials that come as files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiida_e3relax.cli.profile import profile_option, use_profile
from aiida_e3relax.common.messages import name_some, printable

if TYPE_CHECKING:
    from aiida_e3relax.data.model import E3RelaxModelData
    from aiida_e3relax.data.potential import E3RelaxPotentialData

SHOWN_HASH = 12
SHOWN_ELEMENTS = 12


@click.group()
def model() -> None:
    """List, show, import and export networks, and import the weights of potentials."""


@model.command('list')
@click.option('--raw', is_flag=True, help='Print lines with tabs between the cells and no headings.')
@profile_option
def list_models(raw: bool, profile: str | None) -> None:
    """List the networks of the profile, the newest last, and imported weights of potentials.

    With --raw a line has the same six cells of both, of weights the potential as the architecture and what is known of
    them as the origin; the weights come first.
    """
    use_profile(profile)

    from aiida import orm
    from rich.console import Console
    from rich.table import Table

    from aiida_e3relax.campaign.rounds.history import describe_origins
    from aiida_e3relax.data.model import E3RelaxModelData
    from aiida_e3relax.data.potential import E3RelaxPotentialData

    origins = describe_origins()
    models, weights = (
        orm.QueryBuilder().append(kind, tag='node').order_by({'node': {'id': 'asc'}}).all(flat=True)
        for kind in (E3RelaxModelData, E3RelaxPotentialData)
    )
    of_models = [_cells(node, node.architecture, origins.get(node.uuid, '')) for node in models]
    of_weights = [_cells(node, f'weights of {node.potential}', _known_facts(node)) for node in weights]
    if raw:
        for cells in of_weights + of_models:
            click.echo('\t'.join(map(printable, cells)))
    elif models or weights:
        for rows, titles in ((of_models, ('architecture', 'origin')), (of_weights, ('potential', 'facts'))):
            if not rows:
                continue
            table = Table()
            for title in ('PK', 'label', titles[0], 'content hash', 'made', titles[1]):
                table.add_column(title)
            for cells in rows:
                table.add_row(*map(printable, cells))
            Console().print(table)
        click.echo('More on one: aiida-e3relax model show PK')
    else:
        click.echo('There are none in this profile. `aiida-e3relax setup` stores the one that comes with the package')


@model.command('show')
@click.argument('name', metavar='MODEL')
@click.option('--card', 'as_card', is_flag=True, help='Print the whole model card, or facts of weights, as JSON.')
@profile_option
def show_model(name: str, as_card: bool, profile: str | None) -> None:
    """Show what the network MODEL is, what it was made of, and where its card says that it fails.

    MODEL is a label, PK or UUID, also of weights of a potential, a checkpoint file, or `default`.
    """
    use_profile(profile)

    from aiida_e3relax.campaign.rounds.history import describe_origins

    node = _find(name)
    card = _card(node)
    if as_card:
        click.echo(json.dumps(card, indent=2))
        return
    for title, text in _facts(node):
        click.echo(f'{title}: {text}')
    if origin := describe_origins().get(node.uuid):
        click.echo(f'origin: {printable(origin)}')
    if source := card.get('limits_of'):
        click.echo(f'limits, found of {printable(str(source))}:')
    for limit in card.get('limits') or ():
        click.echo(f'- {limit}')


@model.command('export')
@click.argument('name', metavar='MODEL')
@click.argument('folder', type=click.Path(file_okay=False, path_type=Path))
@profile_option
def export_model(name: str, folder: Path, profile: str | None) -> None:
    """Write the checkpoint of the network MODEL, and its card beside it, into FOLDER.

    MODEL is a label, PK or UUID, a checkpoint file, or `default`. Of weights of a potential the file comes under its
    own name, and the card has what is known of them, which `model import` takes as options. Of a model that
    a campaign has tuned it is said which generation it is, or that it was not taken. `aiida-e3relax model import` takes
    the files into another profile, where the content hash stays the same; `e3relax predict --model` takes them as they
    are.
    """
    use_profile(profile)

    from aiida_e3relax.campaign.rounds.history import describe_origins
    from aiida_e3relax.common.errors import OutputError
    from aiida_e3relax.common.output_files import whole_file
    from aiida_e3relax.crystals.files import make_label
    from aiida_e3relax.data.model import E3RelaxModelData
    from aiida_e3relax.gnn.checkpoints.model_card import card_path

    node = _find(name)
    path = folder / (f'{make_label(node.name)}.pt' if isinstance(node, E3RelaxModelData) else node.filename)
    card, text = card_path(path), json.dumps(_card(node), indent=2) + '\n'
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_left = card.is_file() and card.read_text(encoding='utf-8') == text  # by an export that was killed
        for target in (path, *([] if is_left else [card])):
            if target.exists():
                raise click.ClickException(f'{target}: is there already; name another folder, or remove it')
        with whole_file(card) as partial:
            partial.write_text(text, encoding='utf-8')
        with whole_file(path) as partial, node.open(mode='rb') as handle:
            partial.write_bytes(handle.read())
    except OSError as error:
        raise click.ClickException(f'{error.filename or folder}: {error.strerror or error}') from error
    except OutputError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f'{path}\n{card_path(path)}')
    if origin := describe_origins().get(node.uuid):
        click.echo(printable(origin), err=True)


@model.command('import')
@click.argument('file', type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option('--potential', metavar='NAME', help='FILE holds the weights of this potential, such as mace.')
@click.option('--licence', help='Of the weights, such as CC-BY-4.0; of a network it goes into the card.')
@click.option('--doi', help='Of what describes a network; goes into the card.')
@click.option('--training-data', help='Of a potential, such as MPtrj.')
@click.option('--functional', help='Of the energies that a potential was trained on, such as PBE(+U).')
@click.option('--label', help='Of the node.  [default: the name in the card, or of the file]')
@profile_option
def import_model(
    file: Path, potential: str | None, label: str | None, profile: str | None, **facts: str | None
) -> None:
    """Store the checkpoint FILE, whose card lies beside it, as a node; one that is there already stays as it is.

    With --potential FILE is a file of weights, and the node what --potential-weights takes. What is said of them here
    stands in the report of every run, and holds for the file wherever it is named.
    """
    strange = ('doi',) if potential else ('training_data', 'functional')
    if told := [name for name in strange if facts[name]]:
        kind = 'a network' if potential else 'a potential, named by --potential'
        raise click.UsageError(f'--{told[0].replace("_", "-")}: expected with {kind} alone; leave it out')
    use_profile(profile)
    try:
        node, created = _store(file, potential, {name: fact for name, fact in facts.items() if fact})
    except ValueError as error:
        raise click.ClickException(printable(str(error))) from error
    name = f'{type(node).__name__}<{node.pk}>'
    if label and not created and node.label != label:
        raise click.ClickException(
            f'{name} has this file and what is said of it already, as {printable(node.label)}; to call it '
            f'otherwise: verdi node label -l {label} {node.pk}'
        )
    if label:
        node.label = label
    state = 'stored' if created else 'was there'
    click.echo(f'{name} {printable(node.label)}, {_short(node.content_hash)}: {state}')


def _store(
    file: Path, potential: str | None, facts: Mapping[str, str]
) -> tuple[E3RelaxModelData | E3RelaxPotentialData, bool]:
    """Return the node of a checkpoint, or of the weights of a potential, and whether it was created just now."""
    from aiida_e3relax.data.model import E3RelaxModelData
    from aiida_e3relax.data.potential import E3RelaxPotentialData
    from aiida_e3relax.gnn.checkpoints.model_card import read_card

    if potential:
        return E3RelaxPotentialData.get_or_create(file, potential, **facts)
    return E3RelaxModelData.get_or_create(file, read_card(file) | dict(facts))


def _find(name: str) -> E3RelaxModelData | E3RelaxPotentialData:
    """Return the network that a person names, or the weights of a potential where no network has that label."""
    from aiida_e3relax.cli.chain_choices import choose_model
    from aiida_e3relax.cli.nodes import find_named
    from aiida_e3relax.data.model import E3RelaxModelData
    from aiida_e3relax.data.potential import E3RelaxPotentialData

    try:
        if name == 'default' or Path(name).is_file():
            return choose_model(name)
        complaint = (
            'expected `default`, a checkpoint file that is there, or the label, PK or UUID of a model or weights'
        )
        return find_named(name, [E3RelaxModelData, E3RelaxPotentialData], complaint)
    except ValueError as error:
        raise click.ClickException(printable(str(error))) from error


def _short(content_hash: str) -> str:
    return content_hash.removeprefix('sha256:')[:SHOWN_HASH]


def _cells(node: E3RelaxModelData | E3RelaxPotentialData, kind: str, origin: str) -> tuple[str, ...]:
    """Return a row of the list."""
    return str(node.pk), node.label, kind, _short(node.content_hash), f'{node.ctime:%Y-%m-%d %H:%M}', origin


def _known_facts(node: E3RelaxPotentialData) -> str:
    """Return what is known of weights as one text."""
    return ', '.join(f'{name.replace("_", " ")} {fact}' for name, fact in node.facts.items() if fact is not None)


def _card(node: E3RelaxModelData | E3RelaxPotentialData) -> dict[str, Any]:
    """Return the model card, or what is known of weights."""
    from aiida_e3relax.data.model import E3RelaxModelData

    if isinstance(node, E3RelaxModelData):
        return node.card
    return {'potential': node.potential, 'file': node.filename, 'content_hash': node.content_hash, **node.facts}


def _facts(node: E3RelaxModelData | E3RelaxPotentialData) -> Iterator[tuple[str, str]]:
    """Yield titles and texts."""
    from aiida_e3relax.data.model import E3RelaxModelData

    if not isinstance(node, E3RelaxModelData):
        yield 'weights', f'{printable(node.label)}, E3RelaxPotentialData<{node.pk}> {node.uuid}'
        for key, fact in _card(node).items():
            yield key.replace('_', ' '), 'not known' if fact is None else printable(fact)
        return
    card = node.card
    yield 'model', f'{printable(node.name)}, E3RelaxModelData<{node.pk}> {node.uuid}'
    yield 'content hash', node.content_hash
    yield 'architecture', node.architecture
    for key in ('form', 'parameters', 'licence', 'doi', 'citation'):
        if card.get(key) is not None:
            yield key, printable(str(card[key]))
    elements = [str(element) for element in card.get('elements') or _symbols(card.get('atomic_numbers') or ())]
    if elements:
        yield 'elements', name_some(elements, SHOWN_ELEMENTS)
    yield from _facts_of_training(node)
    made_of: Mapping[str, Any] = card.get('made_of') or {}
    if made_of:
        yield 'made by', f'process {made_of.get("process")}'
        if campaign := made_of.get('campaign'):
            yield 'made by', printable(f'campaign {campaign.get("name")} {campaign.get("uuid")}')
        for key, pairs in (made_of.get('pairs') or {}).items():
            yield 'made of', f'pairs {printable(key)} {pairs.get("uuid")}'


def _facts_of_training(node: E3RelaxModelData) -> Iterator[tuple[str, str]]:
    """Yield titles and texts of what it learnt from, and how well."""
    training: Mapping[str, Any] = node.card.get('training') or {}
    data = training.get('data') or node.card.get('training_data') or {}
    if isinstance(data, Mapping):
        for source, told in data.items():
            counts = told if isinstance(told, Mapping) else {}
            numbers = [f'{value:,} {split}' for split, value in counts.items() if isinstance(value, int)]
            yield 'trained on', printable(f'{source}: {", ".join(numbers)}' if numbers else str(source))
    for key in ('validation_coordinates_A', 'validation_cell_A'):
        if key in training:
            yield key.replace('_A', ' (A)').replace('_', ' '), f'{training[key]:.4f}'
    if calibrated := training.get('calibration'):
        data = printable(', '.join(map(str, calibrated.get('data') or ())))
        yield 'uncertainty', f'scaled to the errors on {calibrated.get("pairs")} pairs of {data}'
    elif not node.is_calibrated:
        yield 'uncertainty', 'not scaled to errors since it was trained'
    if tuned := training.get('tuned_from'):
        yield 'tuned from', str(tuned.get('content_hash'))
        if tuned.get('reference_is_kept') is False:
            yield 'distance to the training', 'none, as the environments of that model are those of other weights'


def _symbols(numbers: Iterable[int]) -> list[str]:
    """Return the symbols of elements, which the cards of trainings tell by their atomic numbers."""
    from aiida_e3relax.data.structures import SYMBOLS

    return [str(SYMBOLS[number]) for number in sorted(numbers)]
