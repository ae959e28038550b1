"""The crystals in the files that a person names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import ase.io
import click
from aiida.common.exceptions import InputValidationError
from aiida_vasp.utils.constraints import atoms_to_positions_dof
from ase import Atoms

from aiida_e3relax.crystals.freedom.freedom import AXES


def read_crystals(path: Path) -> list[Atoms]:
    """Return every crystal in a file, at least one; raises ClickException when ASE cannot read it."""
    try:
        crystals = list(ase.io.iread(path))
    except Exception as error:  # readers of foreign formats raise anything
        raise click.ClickException(f'{path}: cannot be read as a crystal: {type(error).__name__}: {error}') from error
    if not crystals:
        raise click.ClickException(f'{path}: cannot be read as a crystal: ASE finds none in it')
    return crystals


def label_crystals(files: Iterable[Path]) -> dict[str, Atoms]:
    """Return every crystal of `files`, under labels made from the names of the files.

    Labels are letters, digits and single underscores, as AiiDA takes them for links; with several crystals in a file
    their number comes last. Raises ClickException when a file cannot be read or gives a label a second time.
    """
    crystals: dict[str, Atoms] = {}
    for file in files:
        frames = read_crystals(file)
        stem = make_label(file.stem if file.suffix else file.name)
        for index, atoms in enumerate(frames):
            label = stem if len(frames) == 1 else f'{stem}_{index}'
            if label in crystals:
                raise click.ClickException(f'{file}: another file gave the label `{label}` already; rename one')
            crystals[label] = atoms
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
        movable = atoms_to_positions_dof(atoms)
    except InputValidationError as error:
        raise click.ClickException(f'the constraints of the structure: {error}') from error
    fixed: dict[str, list[int]] = {}
    for site, row in enumerate([] if movable is None else movable):
        letters = ''.join(letter for letter, free in zip(AXES, row, strict=True) if not free)
        if letters:
            fixed.setdefault(letters, []).append(site)
    return fixed
