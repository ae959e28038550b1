"""`aiida-e3relax data`: relaxations in the graph as pairs to learn from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiida_e3relax.cli.profile import profile_option, use_profile
from aiida_e3relax.cli.several_values import SeveralValues, SeveralValuesCommand
from aiida_e3relax.common.messages import count_of, name_some, printable

if TYPE_CHECKING:
    from aiida_e3relax.learning.gather import Gathered
    from aiida_e3relax.learning.relaxations import Relaxation, RelaxationKind

CAMPAIGN, GROUP, QUERY = 'campaign:', 'group:', 'query:'
SHOWN_REASONS = 10
NOT_KNOWN = 'not known'


@click.command(cls=SeveralValuesCommand)
@click.option(
    '--from',
    'sources',
    cls=SeveralValues,
    metavar='SOURCE...',
    help='Where the relaxations are: campaign:NAME; group:LABEL, the work chains in an AiiDA group; '
    'query:elements=Cu,Ag,Au;atoms=2-8, those in the profile of crystals of these elements only and with that many '
    'sites, where either condition may be left out.',
)
@click.option(
    '--check',
    'checked',
    metavar='NODE',
    help='Gather nothing: look whether each pair in the node of pairs NODE, a PK or UUID, starts and ends where its '
    'relaxation in the profile did, held what it held, and has its settings.',
)
@click.option('--output', type=click.Path(dir_okay=False, path_type=Path), help='Write a training file, .npz, too.')
@click.option('--label', help='Of the node, and of the data set in tables.  [default: made of the sources]')
@click.option(
    '--kinds',
    'kinds_file',
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help='A YAML file with other work chains that relax: {MyRelaxWorkChain: {start: structure, end: relaxed}}, the '
    'labels of the links to the crystals.',
)
@click.option('--settings', metavar='KEY', help='Only relaxations with these settings of VASP, as an error names them.')
@click.option('--mix-settings', is_flag=True, help='Take relaxations with different settings of VASP together.')
@click.option(
    '--split',
    type=click.Choice(['chemical-system', 'random', 'prototype']),
    default='chemical-system',
    show_default=True,
    help='What stays together when the pairs are divided into train, val and test.',
)
@click.option('--seed', type=click.IntRange(min=0), default=0, show_default=True, help='Of that division.')
@click.option('--drop-duplicates', is_flag=True, help='Leave out pairs that repeat an earlier one of their split.')
@profile_option
def data(
    sources: tuple[str, ...],
    checked: str | None,
    output: Path | None,
    label: str | None,
    kinds_file: Path | None,
    settings: str | None,
    mix_settings: bool,
    split: str,
    seed: int,
    drop_duplicates: bool,
    profile: str | None,
) -> None:
    """Gather finished relaxations by VASP into one node of pairs, to train or tune networks on.

    A pair is where a relaxation started, the raw crystal, and where it ended. Relaxations that did not converge are
    left out and counted; those that were computed with different settings are never mixed without being told to.
    """
    if bool(sources) == (checked is not None):
        raise click.UsageError('expected --from SOURCE..., to gather pairs, or --check NODE, to check some')
    use_profile(profile)
    if checked is not None:
        _check(checked, kinds_file)
        return
    if output is not None:
        _check_output(output)

    from aiida_e3relax.common.errors import InputError, OutputError
    from aiida_e3relax.common.output_files import whole_file
    from aiida_e3relax.gnn.data.build import BuildOptions
    from aiida_e3relax.learning.gather import gather

    kinds = _known_kinds(kinds_file)
    found: dict[str, Relaxation] = {}
    left_out: dict[int, str] = {}
    for word in sources:
        found |= {relaxation.process: relaxation for relaxation in _find(word, kinds, left_out)}
    for reason, count in Counter(left_out.values()).most_common(SHOWN_REASONS):
        click.echo(f'{count_of(count, "work chain")} left out: {printable(reason)}')
    options = BuildOptions(split=split, seed=seed, drop_duplicates=drop_duplicates)
    try:
        name, is_one_recipe = label or _name_of(sources), len(sources) == 1 and sources[0].startswith(CAMPAIGN)
        gathered = gather(found.values(), name, options, mix_settings, settings, is_one_recipe=is_one_recipe)
    except InputError as error:
        raise click.ClickException(printable(str(error))) from error
    node = gathered.node.store()
    _describe(gathered, len(found))
    click.echo(f'E3RelaxPairsData<{node.pk}> ({node.uuid})')
    if output is not None:
        try:
            with node.open(mode='rb') as handle, whole_file(output) as partial:
                partial.write_bytes(handle.read())
        except OutputError as error:
            raise click.ClickException(str(error)) from error
        click.echo(f'The same as a training file: {output}')


def _check_output(path: Path) -> None:
    """Raise ClickException where no training file can be written to `path`."""
    from aiida_e3relax.common.errors import RunError
    from aiida_e3relax.common.output_files import check_output

    if path.suffix != '.npz':
        raise click.ClickException(f'--output {path}: expected a name that ends in .npz')
    try:
        check_output(path, '--output', [])
    except RunError as error:
        raise click.ClickException(str(error)) from error


def _find(word: str, kinds: dict[str, RelaxationKind], left_out: dict[int, str]) -> Sequence[Relaxation]:
    """Return the relaxations that a word of --from stands for, see `find_relaxations`; raises ClickException."""
    from aiida import orm

    from aiida_e3relax.campaign.group import CampaignGroup, load_campaign
    from aiida_e3relax.campaign.results.records import chain_query
    from aiida_e3relax.learning.relaxations import choose_attempts, find_relaxations

    if word.startswith(CAMPAIGN):
        try:
            campaign = load_campaign(word.removeprefix(CAMPAIGN))
        except ValueError as error:
            raise click.ClickException(f'--from {printable(word)}: {printable(str(error))}') from error
        found = find_relaxations(chain_query(campaign.settings_node, ['id']), kinds, left_out)
        structures = campaign.settings.structures
        chosen = choose_attempts(found, structures)
        foreign = [relaxation for relaxation in found if relaxation.label not in structures]
        if count := len(found) - len(foreign) - len(chosen):
            click.echo(f'{count_of(count, "relaxation")} left out: another attempt at the same structure is taken')
        return [*chosen.values(), *foreign]
    if word.startswith(GROUP):
        label = word.removeprefix(GROUP)
        query = orm.QueryBuilder().append(orm.Group, filters={'label': label}, tag='group')
        if not query.count():
            raise click.ClickException(f'--from {printable(word)}: no group has this label; see `verdi group list`')
        query.append(orm.WorkChainNode, with_group='group', project='id')
        if not query.count() and orm.QueryBuilder().append(CampaignGroup, filters={'label': label}).count():
            raise click.ClickException(
                f'--from {printable(word)}: a campaign, whose group holds its crystals; expected {CAMPAIGN}'
                f'{printable(label)}'
            )
        return find_relaxations(query, kinds, left_out)
    if word.startswith(QUERY):
        return _run_query(word, kinds)
    raise click.ClickException(
        f'--from {printable(word)}: expected {CAMPAIGN}NAME, {GROUP}LABEL or {QUERY}CONDITIONS; files of finished '
        'relaxations are read by `e3relax data`'
    )


def _run_query(word: str, kinds: dict[str, RelaxationKind]) -> Sequence[Relaxation]:
    from aiida import orm

    from aiida_e3relax.campaign.results.records import read_compositions
    from aiida_e3relax.cli.campaign.sources import read_bounds, read_conditions
    from aiida_e3relax.learning.relaxations import find_relaxations

    conditions = read_conditions(word)
    elements = set(filter(None, conditions.get('elements', '').split(',')))
    least, most = read_bounds(word, conditions['atoms']) if 'atoms' in conditions else (1, 10**9)
    filters = {'attributes.process_label': {'in': list(kinds)}}
    found = find_relaxations(orm.QueryBuilder().append(orm.WorkChainNode, filters=filters, project='id'), kinds)
    made_of = read_compositions([relaxation.start for relaxation in found])
    return [
        relaxation
        for relaxation in found
        if least <= made_of[relaxation.start]['n_atoms'] <= most
        and (not elements or elements >= set(made_of[relaxation.start]['elements']))
    ]


def _check(word: str, kinds_file: Path | None) -> None:
    """Say which pairs of a node are not what their relaxation is; raises ClickException where there are such."""
    from aiida_e3relax.cli.nodes import describe_node, find_node
    from aiida_e3relax.data.pairs import E3RelaxPairsData
    from aiida_e3relax.learning.origin import check_origin, named_relaxations

    node = find_node(word, 'expected the PK or UUID of a node of pairs')
    if not isinstance(node, E3RelaxPairsData):
        raise click.ClickException(f'--check {word}: expected an E3RelaxPairsData, found {describe_node(node)}')
    named = len(named_relaxations(node))
    if others := len(node) - named:
        click.echo(f'{others} of {len(node)} pairs name no relaxation, as those that were read from files.')
    faults = check_origin(node, _known_kinds(kinds_file))
    for process, fault in faults.items():
        click.echo(f'{process}: {printable(fault)}', err=True)
    if faults:
        raise click.ClickException(f'{len(faults)} of {named} pairs differ from their relaxations')
    click.echo(f'{named} pairs are what their relaxations are.')


def _known_kinds(path: Path | None) -> dict[str, RelaxationKind]:
    """Return the work chains that relax, those of a file among them; raises ClickException."""
    from aiida_e3relax.learning.relaxations import KINDS

    return {**KINDS, **(_read_kinds(path) if path else {})}


def _read_kinds(path: Path) -> dict[str, RelaxationKind]:
    """Return the work chains that relax in a YAML file; raises ClickException."""
    from aiida_e3relax.common.errors import InputError
    from aiida_e3relax.common.fields import read_fields
    from aiida_e3relax.common.strict_yaml import load_yaml
    from aiida_e3relax.learning.relaxations import RelaxationKind

    try:
        content: Any = load_yaml(path.read_text(encoding='utf-8'))
        if not isinstance(content, dict):
            raise InputError('expected labels of work chains with `start` and `end`')
        return {str(name): read_fields(RelaxationKind, value, str(name)) for name, value in content.items()}
    except (ValueError, OSError) as error:
        raise click.ClickException(f'--kinds {path}: {printable(str(error))}') from error


def _name_of(sources: Sequence[str]) -> str:
    return '+'.join(word.partition(':')[2] or word for word in sources)[:80]


def _describe(gathered: Gathered, n_found: int) -> None:
    """Say what became of the relaxations."""
    from aiida_e3relax.gnn.data.build import MOVES
    from aiida_e3relax.learning.gather import count_as

    built = gathered.data
    splits = ', '.join(f'{count} {name}' for name, count in gathered.node.splits.items())
    relaxations = count_of(n_found, 'relaxation')
    click.echo(f'{relaxations} that finished well, {count_of(len(built.pairs), "pair")}: {splits}.')
    kinds = {name.partition('_')[0] for name in gathered.node.splits}
    if without := [kind for kind in ('train', 'val', 'test') if kind not in kinds]:
        click.echo(
            f'Warning: no pair is of the split {" or ".join(without)}: there are too few pairs, or too few groups that '
            'stay together; `--split random` divides the pairs of one chemical system, too',
            err=True,
        )
    for reason, count in Counter(map(count_as, built.rejections)).most_common(SHOWN_REASONS):
        click.echo(f'{count} left out: {reason}')
    for what, count in built.repeats.items():
        if count:
            remedy = '; --drop-duplicates leaves them out' if what.startswith('repeats') else ''
            click.echo(f'{what[0].upper()}{what[1:]}: {count}{remedy}')
    for key, settings in gathered.settings.items():
        told = ', '.join(f'{name} {value}' for name, value in settings.items())
        click.echo(f'Settings {key}: {told or "not known, no job of VASP made the crystals"}')
    for name, counts in gathered.others.items():
        told = name_some([f'{value} ({count})' for value, count in counts.items()], SHOWN_REASONS)
        click.echo(f'Warning: {name} is not the same in all, and is not compared: {printable(told)}', err=True)
    if MOVES in built.pairs.about:
        moves = Counter(built.pairs.about[MOVES].tolist()).most_common()
        click.echo(f'VASP moved: {", ".join(f"{words or NOT_KNOWN} ({count})" for words, count in moves)}')
