"""The crystals in the files that a person names."""

from __future__ import annotations

from pathlib import Path

import ase.io
import click
from ase import Atoms


def read_crystals(path: Path) -> list[Atoms]:
    """Return every crystal in a file, at least one; raises ClickException when ASE cannot read it."""
    try:
        crystals = list(ase.io.iread(path))
    except Exception as error:  # readers of foreign formats raise anything
        raise click.ClickException(f'{path}: cannot be read as a crystal: {type(error).__name__}: {error}') from error
    if not crystals:
        raise click.ClickException(f'{path}: cannot be read as a crystal: ASE finds none in it')
    return crystals
