"""The structures of a campaign from the words of a command line."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from aiida import orm
from aiida.common.exceptions import MultipleObjectsError, NotExistent

from aiida_e3relax.cli.campaign.source_files import GROUP, QUERY, find_files
from aiida_e3relax.cli.crystal_file import LONGEST_LABEL, fixed_components, labelled_entries
from aiida_e3relax.common.messages import printable
from aiida_e3relax.crystals.files import UniqueLabels, labels_of, make_label

QUERY_KEYS = ('elements', 'atoms')
BOUNDS = re.compile(r'(\d*)-(\d*)')


@dataclasses.dataclass(frozen=True)
class Sources:
    """The structures that a campaign starts from.

    Attributes
    ----------
    structures
        By label; those from files are not stored.
    fixed
        By label the sites that the file holds, as `fixed` in `freedom`.
    left_out
        By label why a file, or a crystal in it, cannot be used.
    notes
        What a person should know of how structures were read, and of how many.
    """

    structures: dict[str, orm.StructureData] = dataclasses.field(default_factory=dict)
    fixed: dict[str, dict[str, list[int]]] = dataclasses.field(default_factory=dict)
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)
    notes: Counter[str] = dataclasses.field(default_factory=Counter)


def read_sources(words: Iterable[str]) -> Sources:
    """Return the structures that a person names, see `source_files.SOURCES_HELP`, each under a label of its own.

    Raises ClickException for a source that is not there or is empty, and for a file or node in two of them.
    """
    sources = Sources()
    found: list[Path | orm.StructureData] = []
    for word in words:
        if word.startswith(GROUP):
            found += _read_group(word.removeprefix(GROUP), sources.notes)
        elif word.startswith(QUERY):
            found += _run_query(word)
        else:
            found += find_files(word, sources.notes)
    _refuse_duplicates(found)
    labels = iter(_label_nodes([item for item in found if isinstance(item, orm.StructureData)]))
    file_labels = iter(labels_of([item for item in found if isinstance(item, Path)], _make_label))
    taken = UniqueLabels()
    for item in found:
        if isinstance(item, Path):
            _add_file(sources, item, next(file_labels), taken)
        else:
            sources.structures[taken.claim(next(labels))] = item
    return sources


def _add_file(sources: Sources, path: Path, stem: str, taken: UniqueLabels) -> None:
    """Add the crystals of a file to `sources`; they have their number in the label where they are several."""
    for label, entry in labelled_entries(path, stem, taken):
        sources.notes.update(entry.notes)
        if entry.atoms is None:
            sources.left_out[label] = entry.fault
            continue
        try:
            held = fixed_components(entry.atoms)
        except click.ClickException as error:
            sources.left_out[label] = f'{printable(path)}: {error.message}'
            continue
        sources.structures[label] = orm.StructureData(ase=entry.atoms)
        if held:
            sources.fixed[label] = held


def _refuse_duplicates(found: Iterable[Path | orm.StructureData]) -> None:
    """Raise ClickException for a file or a node that is there twice."""
    seen: set[Any] = set()
    for item in found:
        key = item.resolve() if isinstance(item, Path) else item.pk
        if key in seen:
            name = f'the file {printable(item)}' if isinstance(item, Path) else f'StructureData<{item.pk}>'
            raise click.ClickException(f'--from: {name} is in two of the sources; name it once')
        seen.add(key)


def _read_group(label: str, notes: Counter[str]) -> list[orm.StructureData]:
    try:
        group = orm.load_group(label=label)  # by name: a label may look like the beginning of a UUID
    except (NotExistent, MultipleObjectsError, ValueError) as error:
        reason = 'no group has this label' if isinstance(error, NotExistent) else printable(str(error))
        raise click.ClickException(f'--from {GROUP}{printable(label)}: {reason}; see `verdi group list`') from error
    query = orm.QueryBuilder().append(orm.Group, filters={'id': group.pk}, tag='group')
    query.append(orm.StructureData, with_group='group', tag='structure').order_by({'structure': {'id': 'asc'}})
    structures = query.all(flat=True)
    if not structures:
        raise click.ClickException(f'--from {GROUP}{printable(label)}: expected StructureData in the group, found none')
    if n_others := group.count() - len(structures):
        notes['node of the group is no StructureData, and is passed over'] += n_others
    return structures


def _run_query(word: str) -> list[orm.StructureData]:
    conditions = read_conditions(word)
    filters: dict[str, Any] = {'and': []}
    if match := conditions.get('atoms'):
        least, most = read_bounds(word, match)
        filters['and'] += [{'attributes.sites': {'longer': least - 1}}, {'attributes.sites': {'shorter': most + 1}}]
    query = orm.QueryBuilder()
    query.append(
        orm.StructureData, filters=filters if filters['and'] else {}, project=['*', 'attributes.kinds'], tag='s'
    )
    made = orm.QueryBuilder().append(orm.ProcessNode, tag='process')
    made.append(orm.StructureData, with_incoming='process', project='id')
    by_processes = set(made.all(flat=True))
    elements = set(filter(None, conditions.get('elements', '').split(',')))
    found = [
        structure
        for structure, kinds in query.order_by({'s': {'id': 'asc'}}).all()
        if structure.pk not in by_processes
        and (not elements or elements >= {symbol for kind in kinds for symbol in kind['symbols']})
    ]
    if not found:
        raise click.ClickException(f'--from {word}: no structure in the profile is like this and made by no process')
    return found


def read_conditions(word: str) -> dict[str, str]:
    """Return the conditions in `query:elements=Cu,Au;atoms=2-8`, by `QUERY_KEYS`; raises ClickException."""
    conditions = {}
    for text in filter(None, word.removeprefix(QUERY).split(';')):
        key, _, value = text.partition('=')
        if key not in QUERY_KEYS or not value:
            raise click.ClickException(
                f'--from {word}: expected conditions such as elements=Cu,Au and atoms=2-8 with `;` between them, found '
                f'{text!r}'
            )
        conditions[key] = value
    return conditions


def read_bounds(word: str, text: str) -> tuple[int, int]:
    """Return the bounds in `8`, `2-8`, `2-` or `-8`; raises ClickException."""
    if text.isdigit():
        return int(text), int(text)
    match = BOUNDS.fullmatch(text)
    if match is None:
        raise click.ClickException(
            f'--from {word}: expected a number of sites such as 8, 2-8, 2- or -8, found {text!r}'
        )
    least, most = int(match[1] or 1), int(match[2] or 10**6)
    if least > most:
        raise click.ClickException(
            f'--from {word}: expected the smaller number of sites first, as {most}-{least}, found {text!r}'
        )
    return least, most


def _label_nodes(structures: list[orm.StructureData]) -> list[str]:
    """Return labels from those that nodes have, with their PK where they have none or share it."""
    labels = [_make_label(structure.label or structure.get_formula('hill_compact')) for structure in structures]
    counts = Counter(labels)
    return [
        label if structure.label and counts[label] == 1 else f'{label}_{structure.pk}'
        for label, structure in zip(labels, structures, strict=True)
    ]


def _make_label(text: str) -> str:
    """Return a label like `text` that AiiDA takes for links and, with what may be added to it, for nodes."""
    return make_label(text)[:LONGEST_LABEL].rstrip('_')
