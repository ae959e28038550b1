"""The structures of a campaign from the words of a command line."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from aiida import orm
from aiida.common.exceptions import NotExistent

from aiida_e3relax.cli.crystal_file import fixed_components, label_crystals, make_label

GROUP = 'group:'
QUERY = 'query:'
QUERY_KEYS = ('elements', 'atoms')
RANGE = re.compile(r'(\d*)-(\d*)')
SOURCES_HELP = (
    'Where the structures are; may be given more than once. A file that ASE reads, with every crystal in it; a folder, '
    "with every file in it; a pattern such as 'hypothetical/*.cif'. Or group:LABEL, the structures in an AiiDA group. "
    'Or query:elements=Cu,Ag,Au;atoms=2-8, the structures in the profile that no process has made, of these elements '
    'only and with that many sites; either condition may be left out.'
)


@dataclasses.dataclass(frozen=True)
class Sources:
    """The structures that a campaign starts from.

    Attributes
    ----------
    structures
        By label; those from files are not stored.
    fixed
        By label the sites that the file holds, as `fixed` in `freedom`.
    """

    structures: dict[str, orm.StructureData]
    fixed: dict[str, dict[str, list[int]]]


def read_sources(words: Iterable[str]) -> Sources:
    """Return the structures that a person names, see `SOURCES_HELP`.

    Raises ClickException for a source that is not there or is empty, and for one structure or label in two sources.
    """
    structures: dict[str, orm.StructureData] = {}
    fixed: dict[str, dict[str, list[int]]] = {}
    for word in words:
        if word.startswith(GROUP):
            found = _label_nodes(_read_group(word.removeprefix(GROUP)))
        elif word.startswith(QUERY):
            found = _label_nodes(_run_query(word))
        else:
            crystals = label_crystals(_find_files(word))
            found = {label: orm.StructureData(ase=atoms) for label, atoms in crystals.items()}
            fixed |= {label: held for label, atoms in crystals.items() if (held := fixed_components(atoms))}
        if double := sorted(found.keys() & structures.keys()):
            raise click.ClickException(f'--from {word}: another source gave the label `{double[0]}` already')
        structures |= found
    return Sources(structures, fixed)


def _find_files(word: str) -> list[Path]:
    path = Path(word)
    if path.is_file():
        return [path]
    if path.is_dir():
        files = [file for file in path.iterdir() if file.is_file() and not file.name.startswith('.')]
    else:
        pattern = path.relative_to(path.anchor) if path.is_absolute() else path
        files = [file for file in Path(path.anchor).glob(str(pattern)) if file.is_file()]
    if not files:
        raise click.ClickException(
            f'--from {word}: expected a file, a folder with files, a pattern that files match, {GROUP}LABEL or '
            f'{QUERY}CONDITIONS; nothing is there'
        )
    return sorted(files)


def _read_group(label: str) -> list[orm.StructureData]:
    try:
        group = orm.load_group(label)
    except NotExistent as error:
        raise click.ClickException(f'--from {GROUP}{label}: no group has this label; see `verdi group list`') from error
    query = orm.QueryBuilder().append(orm.Group, filters={'id': group.pk}, tag='group')
    query.append(orm.StructureData, with_group='group', tag='structure').order_by({'structure': {'id': 'asc'}})
    structures = query.all(flat=True)
    if not structures:
        raise click.ClickException(f'--from {GROUP}{label}: expected StructureData in the group, found none')
    return structures


def _run_query(word: str) -> list[orm.StructureData]:
    conditions = _read_conditions(word)
    filters: dict[str, Any] = {'and': []}
    if match := conditions.get('atoms'):
        least, most = _read_range(word, match)
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


def _read_conditions(word: str) -> dict[str, str]:
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


def _read_range(word: str, text: str) -> tuple[int, int]:
    """Return the bounds in `8`, `2-8`, `2-` or `-8`."""
    if text.isdigit():
        return int(text), int(text)
    match = RANGE.fullmatch(text)
    if match is None:
        raise click.ClickException(
            f'--from {word}: expected a number of sites such as 8, 2-8, 2- or -8, found {text!r}'
        )
    return int(match[1] or 1), int(match[2] or 10**6)


def _label_nodes(structures: Iterable[orm.StructureData]) -> dict[str, orm.StructureData]:
    """Return nodes under the labels that they have, with their PK where they have none or share it."""
    labels: dict[str, orm.StructureData] = {}
    for structure in structures:
        label = make_label(structure.label or structure.get_formula('hill_compact'))
        labels[f'{label}_{structure.pk}' if not structure.label or label in labels else label] = structure
    return labels
