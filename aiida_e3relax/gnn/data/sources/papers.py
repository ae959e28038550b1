"""Folders in the layout of the E3Relax-H2 data sets: tables of names beside CIF files, two for each name.

=====================  ==========================  ==========================================
data set               table                       files in ``CIF/``
=====================  ==========================  ==========================================
C2DB, JARVIS, vdW      ``train.csv``, ``atoms_id``  ``{id}_unrelaxed.cif``, ``{id}_relaxed.cif``
MP                     ``train.csv``, ``mp_id``     ``{id}_U.cif``, ``{id}_R.cif``
X-Mn-O                 ``id_prop_train_all.csv``    ``{id}_unrelaxed.cif``, ``{id}_relaxed.cif``
=====================  ==========================  ==========================================

There may be several tables to validate and to test on, such as OC20's ``val_id.csv`` and ``val_ood_ads.csv``. The
tables of X-Mn-O have no header and name both files of a pair; older copies have the files beside the tables.
"""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.crystals.pairs import SPLITS, is_split, split_names
from aiida_e3relax.gnn.data.sources.base import Candidate, Loaded, Source, SourceOptions, only_crystal, sites_of

SUFFIXES = {'atoms_id': ('_unrelaxed', '_relaxed'), 'mp_id': ('_U', '_R')}
_TABLES = ('{}.csv', 'id_prop_{}_all.csv')


def recognises(path: Path) -> bool:
    """Return whether `path` is a folder with a table of names."""
    return path.is_dir() and any(_tables(path, bare) for bare in (False, True))


def open_source(path: Path, options: SourceOptions) -> Source:
    """Return the pairs that the tables name.

    Raises InputError for a missing table or column, and where none of the files is there.
    """
    bare = bool(_tables(path, bare=True))
    folder = path / 'CIF' if (path / 'CIF').is_dir() else path
    names: list[tuple[str, str, tuple[str, str]]] = []
    tables, notes = _tables(path, bare), []
    for split in split_names(tables):
        table = path / _TABLES[bare].format(split)
        if split not in tables:
            raise InputError(
                f'{table}: no such file; a data set folder holds the tables {_expected(bare)}, '
                f'here are {sorted(p.name for p in path.glob("*.csv"))}'
            )
        try:
            ids, suffixes = _xmno_names(table) if bare else _column(table)
        except InputError as error:
            if split in SPLITS:
                raise
            notes.append(f'passed over {error}')
            continue
        names += [(split, name, suffixes) for name in ids]
    there = {file.name for file in folder.iterdir()}
    if names and not any(f'{name}{suffixes[0]}.cif' in there for _, name, suffixes in names):
        split, name, suffixes = names[0]
        raise InputError(
            f'{folder}: none of the files that the tables name is here, such as {name}{suffixes[0]}.cif; '
            f'found {sorted(there)[:3]}: unpack the CIF files there'
        )
    candidates = [
        Candidate(name, split, partial(_load, folder / f'{name}{a}.cif', folder / f'{name}{b}.cif'))
        for split, name, (a, b) in names
    ]
    return Source('papers', str(path), path.resolve().name, candidates, tuple(notes))


def _tables(path: Path, bare: bool) -> set[str]:
    """Return the splits that the tables of a folder are named after."""
    before, after = _TABLES[bare].split('{}')
    found = {file.name.removeprefix(before).removesuffix(after) for file in path.glob(f'{before}*{after}')}
    return {name for name in found if is_split(name)}


def _expected(bare: bool) -> list[str]:
    return [_TABLES[bare].format(split) for split in SPLITS]


def _column(table: Path) -> tuple[list[str], tuple[str, str]]:
    with table.open(newline='', encoding='utf-8') as handle:
        reader = csv.DictReader(handle)
        columns = list(reader.fieldnames or [])
        column = next((c for c in SUFFIXES if c in columns), None)
        if column is None:
            raise InputError(f'{table}: no column {" or ".join(SUFFIXES)}; found {columns}: rename the column of names')
        return [row[column] for row in reader], SUFFIXES[column]


def _xmno_names(table: Path) -> tuple[list[str], tuple[str, str]]:
    with table.open(newline='', encoding='utf-8') as handle:
        names = [row[0] for row in csv.reader(handle) if row]
    relaxed = [n.removesuffix('_relaxed') for n in names if n.endswith('_relaxed')]
    if names and not relaxed:
        raise InputError(f'{table}: no name in the first column ends with _relaxed; found {names[:3]}')
    return relaxed, SUFFIXES['atoms_id']


def _load(unrelaxed: Path, relaxed: Path) -> Loaded:
    before, after = (only_crystal(path) for path in (unrelaxed, relaxed))
    return Loaded(sites_of(before), sites_of(after))
