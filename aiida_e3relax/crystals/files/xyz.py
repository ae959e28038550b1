"""Extended XYZ, frame after frame, so that a damaged frame is lost alone."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from aiida_e3relax.common.messages import short
from aiida_e3relax.crystals.files.content import open_text_file
from aiida_e3relax.crystals.files.elements import isotope_note, read_atomic_number
from aiida_e3relax.crystals.files.errors import CrystalFileError, explain
from aiida_e3relax.crystals.files.poscar import MOST_ATOMS

if TYPE_CHECKING:
    from ase import Atoms

HELD = 'move_mask'
"""The column of ASE that says which sites, or Cartesian coordinates, may move."""

_PLAIN = 'species:S:1:pos:R:3'
"""The columns of a frame that does not say."""

_LIKE_HELD = re.compile('fix|froz|freez|constrain|selective|move|movable', re.IGNORECASE)
"""Names of columns that may mean the same; how, each program settles for itself."""

Read = Callable[[], tuple['Atoms', tuple[str, ...]]]


def read_xyz(path: Path) -> Iterator[Read]:
    """Yield the reader of each frame, which raises CrystalFileError.

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
    """Return the crystal of a frame, and notes; raises CrystalFileError."""
    from ase.io.extxyz import read_xyz as read_frames

    lines = text.split('\n')
    try:
        names = _columns(lines[1])
        symbols = [] if 'numbers' in names else _elements(lines, names)
        atoms = next(iter(read_frames(io.StringIO('\n'.join(lines)), index=slice(None))))
    except CrystalFileError:
        raise
    except Exception as error:  # of what ASE does not expect
        raise CrystalFileError(
            f'ASE cannot read it ({explain(error)}): expected extended XYZ, with `Lattice`, nine numbers, and '
            '`Properties`, which names the columns, in the second line'
        ) from error
    odd = sorted({name for name in names if name != HELD and _LIKE_HELD.search(name)})
    notes = [f'the column {name} of the file is not used: {HELD} is the one that holds sites' for name in odd]
    return atoms, (*isotope_note(symbols), *notes)


def _columns(comment: str) -> list[str]:
    """Return ASE's name of each column, from the second line of a frame; raises CrystalFileError without those needed.

    A name stands there as often as it has columns.
    """
    from ase.io.extxyz import key_val_str_to_dict, parse_properties

    stated = key_val_str_to_dict(comment).get('Properties', _PLAIN) if comment.strip() else _PLAIN
    columns = [name for name, count in parse_properties(stated)[0].values() for _ in range(count)]
    if columns.count('positions') != 3 or not {'symbols', 'numbers'} & set(columns):
        raise CrystalFileError(
            f'`Properties`: expected species:S:1 or Z:I:1, and pos:R:3, Cartesian in A, found {short(stated)}'
        )
    return columns


def _elements(lines: list[str], names: list[str]) -> list[str]:
    """Return the symbols of the sites of a frame, and make those of isotopes H in its `lines`."""
    column, symbols = names.index('symbols'), []
    for site, line in enumerate(lines[2 : 2 + int(lines[0])]):
        words = line.split()
        if len(words) < len(names):
            raise CrystalFileError(f'site {site}: expected {len(names)} columns, found {len(words)}')
        symbols.append(words[column].capitalize())  # as ASE does
        if read_atomic_number(symbols[-1], f'site {site}') == 1:
            words[column] = 'H'
            lines[2 + site] = ' '.join(words)
    return symbols
