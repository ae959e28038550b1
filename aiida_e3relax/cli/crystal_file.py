"""The crystals in the files that a person names."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
from ase import Atoms

from aiida_e3relax.common.messages import printable
from aiida_e3relax.crystals.files import (
    CrystalFileError,
    Entry,
    UniqueLabels,
    iterate_crystals,
    labels_of,
    make_label,
)
from aiida_e3relax.crystals.freedom.constraints import movable_coordinates
from aiida_e3relax.crystals.freedom.freedom import fixed_coordinates

LONGEST_LABEL = 200
"""Characters of a label to which others are added for links and nodes of AiiDA."""


def read_crystal(path: Path) -> Atoms:
    """Return the crystal of a file, the last one of a run's, and say on stderr what of the file is not used.

    Raises ClickException when the file cannot be read, or holds several crystals of different atoms.
    """
    try:
        entries = list(iterate_crystals(path))
    except CrystalFileError as error:
        raise click.ClickException(str(error)) from error
    names = [printable(entry.name) or f'structure {index}' for index, entry in enumerate(entries)]
    last = entries[-1]
    if last.atoms is None:
        raise click.ClickException(f'{printable(path)}: {names[-1]}: {last.fault}')
    if any(entry.atoms is None or (entry.atoms.numbers.tolist() != last.atoms.numbers.tolist()) for entry in entries):
        raise click.ClickException(
            f'{printable(path)}: expected one crystal, found {len(entries)}: {", ".join(names[:8])}; write the one '
            'that you want into a file of its own, or start a campaign from all: aiida-e3relax campaign create --from'
        )
    if len(entries) > 1:
        click.echo(f'{printable(path)}: of its {len(entries)} crystals the last is taken: {names[-1]}', err=True)
    for note in last.notes:
        click.echo(f'{printable(path)}: {note}', err=True)
    return last.atoms


def label_crystals(files: Iterable[Path]) -> dict[str, Atoms]:
    """Return every crystal of `files` that can be read, under labels made from the names of the files.

    What cannot be read is named on stderr; raises ClickException where nothing can.
    """
    files, taken = list(files), UniqueLabels()
    crystals: dict[str, Atoms] = {}
    for file, stem in zip(files, labels_of(files, make_label), strict=True):
        for label, entry in labelled_entries(file, stem, taken):
            for note in entry.notes:
                click.echo(f'{printable(file)}, {label}: {note}', err=True)
            if entry.atoms is None:
                click.echo(f'passed over: {entry.fault}', err=True)
            else:
                crystals[label] = entry.atoms
    if not crystals:
        raise click.ClickException('none of the files could be read')
    return crystals


def labelled_entries(file: Path, stem: str, taken: UniqueLabels) -> Iterator[tuple[str, Entry]]:
    """Yield the crystals of a file under labels that are not `taken`: those that the file gives, or `stem`.

    With `stem` there is a number where there are several.

    The `fault` of an entry names the file and the crystal. A file that cannot be read, or not to its end, has an entry
    without a crystal for that, after those that could be read.
    """
    entries: list[Entry] = []
    fault = ''
    try:
        entries.extend(iterate_crystals(file))
    except CrystalFileError as error:
        fault = str(error)
    for index, entry in enumerate(entries):
        numbered = stem if len(entries) == 1 and not fault else f'{stem}_{index}'
        label = taken.claim(make_label(entry.label[:LONGEST_LABEL]) if entry.label else numbered)
        if entry.atoms is None:
            fault_in_file = f'{printable(file)}: {entry.name or f"structure {index}"}: {entry.fault}'
            yield label, dataclasses.replace(entry, fault=fault_in_file)
        else:
            yield label, entry
    if fault:
        yield taken.claim(stem), Entry(None, fault)


def fixed_components(atoms: Atoms) -> dict[str, list[int]]:
    """Return what the constraints of ASE hold, such as a POSCAR's selective dynamics, as `fixed` in `freedom`.

    Raises ClickException for constraints that VASP's selective dynamics does not know.
    """
    try:
        movable = movable_coordinates(atoms)
    except ValueError as error:
        raise click.ClickException(f'the constraints of the structure: {error}') from error
    return {} if movable is None else fixed_coordinates(movable)
