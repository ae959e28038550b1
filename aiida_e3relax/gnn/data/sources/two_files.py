"""Two files or databases that ASE reads, given as ``UNRELAXED::RELAXED``, matched by a key or by order."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.crystals.files import CrystalFileError, Entry, iterate_crystals
from aiida_e3relax.crystals.files.errors import explain
from aiida_e3relax.crystals.files.reader import check_atoms
from aiida_e3relax.gnn.data.sources.base import Candidate, Loaded, Source, SourceOptions, UnusableError, sites_of

SEPARATOR = '::'
KEYS = ('label', 'atoms_id', 'material_id', 'mp_id', 'uid', 'folder', 'sid', 'name', 'id')
"""Keys that are tried, in this order: the first that every structure of both files has once."""

DATABASES = ('.db', '.json', '.aselmdb')
"""Suffixes of ASE databases."""

_Row = tuple[dict[str, Any], Entry]


def open_source(spec: str, options: SourceOptions) -> Source:
    """Return the pairs of two files, matched.

    Raises InputError where a file cannot be read, where the key that was asked for is missing or repeated, and where
    the files have no common key and different numbers of structures.
    """
    paths = [Path(part) for part in spec.split(SEPARATOR)]
    if len(paths) != 2:
        raise InputError(f'{spec}: expected two files as UNRELAXED{SEPARATOR}RELAXED, found {len(paths)}')
    before, after = (_rows(path) for path in paths)
    key = options.match or next((k for k in KEYS if _is_key(k, before) and _is_key(k, after)), None)
    if key is not None:
        for path, rows in zip(paths, (before, after), strict=True):
            if not _is_key(key, rows):
                raise InputError(
                    f'{path}: not every structure has a value of its own of the key {key!r}; '
                    f'found the keys {sorted({k for facts, _ in rows for k in facts})}'
                )
        partners = {str(facts[key]): atoms for facts, atoms in after}
        candidates = [
            Candidate(name, _split(facts), partial(_load, atoms, partners.get(name), paths[1]))
            for facts, atoms, name in ((facts, atoms, str(facts[key])) for facts, atoms in before)
        ]
        return Source('two files', spec, paths[0].stem, candidates, (f'matched by the key {key!r}',))
    if len(before) != len(after):
        raise InputError(
            f'{spec}: {len(before)} and {len(after)} structures without a common key ({", ".join(KEYS)}); '
            'name one with --match, or give files with as many structures in the same order'
        )
    candidates = [
        Candidate(f'{paths[0].stem}:{i}', _split(facts), partial(_load, atoms, partner, paths[1]))
        for i, ((facts, atoms), (_, partner)) in enumerate(zip(before, after, strict=True))
    ]
    return Source('two files', spec, paths[0].stem, candidates, ('matched by order: no common key was found',))


def _rows(path: Path) -> list[_Row]:
    """Return the facts and the structure of every row or frame."""
    if not path.is_file():
        raise InputError(f'{path}: no such file')
    try:
        if path.suffix in DATABASES:
            return _database_rows(path)
        return [(_facts(entry), entry) for entry in iterate_crystals(path)]
    except InputError:
        raise
    except CrystalFileError as error:
        raise InputError(str(error)) from error
    except Exception as error:  # readers of foreign formats raise anything
        raise InputError(f'{path}: ASE cannot read it: {type(error).__name__}: {error}') from error


def _database_rows(path: Path) -> list[_Row]:
    from ase.db import connect

    try:
        database = connect(path, type=path.suffix[1:])
    except (ModuleNotFoundError, ValueError) as error:
        raise InputError(
            f'{path}: reading .aselmdb needs the package ase-db-backends: pip install ase-db-backends'
        ) from error
    return [({**row.data, **row.key_value_pairs}, _entry(row)) for row in database.select()]


def _entry(row: Any) -> Entry:
    try:
        atoms = row.toatoms()
        check_atoms(atoms)
    except Exception as error:  # readers of foreign formats raise anything
        return Entry(None, explain(error))
    return Entry(atoms)


def _facts(entry: Entry) -> dict[str, Any]:
    return {} if entry.atoms is None else dict(entry.atoms.info)


def _is_key(key: str, rows: list[_Row]) -> bool:
    values = [facts.get(key) for facts, _ in rows]
    return None not in values and len({str(v) for v in values}) == len(values)


def _split(facts: dict[str, Any]) -> str:
    return str(facts.get('split', ''))


def _load(unrelaxed: Entry, relaxed: Entry | None, path: Path) -> Loaded:
    if relaxed is None:
        raise UnusableError(f'no partner in {path.name}')
    for entry in (unrelaxed, relaxed):
        if entry.atoms is None:
            raise UnusableError(f'not read: {entry.fault}')
    return Loaded(sites_of(unrelaxed.atoms), sites_of(relaxed.atoms))
