"""Extended XYZ, frame after frame, so that a damaged frame is lost alone."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from aiida_e3relax.common.messages import short
from aiida_e3relax.crystals.files.content import open_text_file
from aiida_e3relax.crystals.files.errors import CrystalFileError
from aiida_e3relax.crystals.files.poscar import MOST_ATOMS

if TYPE_CHECKING:
    from ase import Atoms

Read = Callable[[], tuple['Atoms', tuple[str, ...]]]


def read_xyz(path: Path) -> Iterator[Read]:
    """Yield the reader of each frame, which raises anything.

    Raises CrystalFileError where a frame does not begin with a number of atoms, or ends early: no other is found then.
    """
    with open_text_file(path) as handle:
        while (line := handle.readline()) and line.strip():
            word = line.strip()
            if not (word.isascii() and word.isdecimal()) or not 0 < int(word[:12]) <= MOST_ATOMS:
                raise CrystalFileError(f'expected a frame with 1 to {MOST_ATOMS:,} atoms, found {short(word)!r}')
            lines = [line, *(handle.readline() for _ in range(int(word) + 1))]
            if not lines[-1].strip():
                raise CrystalFileError(f'the file ends early, in a frame of {word} atoms')
            yield partial(_read_frame, ''.join(lines))
        if line and handle.read(4096).strip():
            raise CrystalFileError('expected a number of atoms, found an empty line')


def _read_frame(text: str) -> tuple[Atoms, tuple[str, ...]]:
    from ase.io.extxyz import read_xyz as read_frames

    return next(iter(read_frames(io.StringIO(text), index=slice(None)))), ()
