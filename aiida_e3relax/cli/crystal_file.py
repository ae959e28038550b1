"""The crystals in the files that a person names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import click
from ase import Atoms

from aiida_e3relax.common.messages import printable
from aiida_e3relax.crystals.files import CrystalFileError, UniqueLabels, iterate_crystals, labels_of
from aiida_e3relax.crystals.freedom.constraints import movable_coordinates
from aiida_e3relax.crystals.freedom.freedom import fixed_coordinates


def read_crystal(path: Path) -> Atoms:
    """Return the crystal of a file, the last one of a run's, and tell on stderr what of the file is not used.

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

    Labels are letters, digits and single underscores, as AiiDA takes them for links; with several crystals in a file
    their number comes last. What cannot be read is told on stderr; raises ClickException where nothing can.
    """
    files, taken = list(files), UniqueLabels()
    crystals: dict[str, Atoms] = {}
    for file, stem in zip(files, labels_of(files, make_label), strict=True):
        try:
            entries = list(iterate_crystals(file))
        except CrystalFileError as error:
            click.echo(f'passed over: {error}', err=True)
            continue
        for index, entry in enumerate(entries):
            label = taken.claim(stem if len(entries) == 1 else f'{stem}_{index}')
            for told in filter(None, (entry.fault and f'passed over: {entry.fault}', *entry.notes)):
                click.echo(f'{printable(file)}, {label}: {told}', err=True)
            if entry.atoms is not None:
                crystals[label] = entry.atoms
    if not crystals:
        raise click.ClickException('none of the files could be read')
    return crystals


def make_label(text: str) -> str:
    """Return letters, digits and single underscores that are like `text`, with no digit first."""
    label = re.sub('[^0-9A-Za-z]+', '_', text).strip('_')
    return label if label[:1].isalpha() else f's_{label}'.rstrip('_')


def fixed_components(atoms: Atoms) -> dict[str, list[int]]:
    """Return what the constraints of ASE hold, such as a POSCAR's selective dynamics, as `fixed` in `freedom`.

    Raises ClickException for constraints that VASP's selective dynamics does not know.
    """
    try:
        movable = movable_coordinates(atoms)
    except ValueError as error:
        raise click.ClickException(f'the constraints of the structure: {error}') from error
    return {} if movable is None else fixed_coordinates(movable)
