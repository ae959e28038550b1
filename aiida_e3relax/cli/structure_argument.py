"""The argument STRUCTURE: a file or a node, checked as far as that needs no database."""

from __future__ import annotations

import re
from pathlib import Path

import click

PK_OR_UUID = re.compile('[0-9]+|[0-9A-Fa-f-]+!?')
STRUCTURE = 'a file that is there (POSCAR, CIF, ...), or the PK or UUID of a StructureData'


def check_structure_argument(text: str) -> None:
    """Raise ClickException unless `text` is a file that is there, or could be the PK or UUID of a node."""
    if not Path(text).is_file() and not PK_OR_UUID.fullmatch(text):
        raise click.ClickException(f'{text}: expected {STRUCTURE}')
