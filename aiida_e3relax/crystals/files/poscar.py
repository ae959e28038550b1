"""POSCAR and CONTCAR of VASP, as VASP reads them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.common.messages import short
from aiida_e3relax.crystals.files.content import OPENERS, open_text_file, read_text
from aiida_e3relax.crystals.files.elements import isotope_note, potential_element, read_atomic_number
from aiida_e3relax.crystals.files.errors import CrystalFileError
from aiida_e3relax.crystals.freedom.constraints import make_constraints

if TYPE_CHECKING:
    from ase import Atoms

MOST_ATOMS = 1_000_000
"""Atoms in a crystal that is read at all."""

_NUMBER = re.compile(r'[+-]?(\d+\.?\d*|\.\d+)([eEdD][+-]?\d+)?', re.ASCII)
_FLAGS = {'T': False, 'TRUE': False, 'F': True, 'FALSE': True}


def read_poscar(path: Path) -> tuple[Atoms, tuple[str, ...]]:
    """Return the crystal of a file in the format of POSCAR, and notes on how it was read.

    Selective dynamics become the constraints FixAtoms and FixScaled. The elements of a file of VASP 4, which has no
    line for them, are those of the POTCAR in its folder. Raises CrystalFileError for what VASP would not read.
    """
    lines = _Lines(read_text(path))
    lines.next('a comment')
    scale, cell = _read_cell(lines)
    symbols, counts, notes = _read_species(lines, path)
    total = sum(counts)
    mode = lines.next('Selective dynamics, Direct or Cartesian').strip()[:1].upper()
    selective = mode == 'S'
    if selective:
        mode = lines.next('Direct or Cartesian').strip()[:1].upper()
    if mode not in {'D', 'F', 'C', 'K'}:
        raise lines.error('Selective dynamics, Direct or Cartesian')
    if total > len(lines.left):
        raise CrystalFileError(f'the numbers of atoms are {total} in all, but only {len(lines.left)} lines follow')
    sites = np.empty((total, 3))
    held = np.zeros((total, 3), dtype=bool)
    for site in range(total):
        sites[site] = lines.numbers(f'the coordinates of atom {site + 1} of {total}')
        if selective:
            held[site] = lines.flags()
    if lines.left and _numbers(lines.left[0].split()[:3]) is not None and len(lines.left[0].split()) >= 3:
        raise CrystalFileError(
            f'the numbers of atoms are {total} in all, but line {lines.number + 1} holds coordinates of one more'
        )
    numbers = [
        read_atomic_number(symbol, 'elements')
        for symbol, count in zip(symbols, counts, strict=True)
        for _ in range(count)
    ]
    return _make_atoms(numbers, cell, sites if mode in {'D', 'F'} else sites * scale, mode, held), notes


class _Lines:
    """The lines of a file, with errors that say which one is wrong."""

    def __init__(self, text: str):
        self._lines = text.split('\n')
        self.number = 0

    @property
    def left(self) -> list[str]:
        """The lines that were not read yet."""
        return self._lines[self.number :]

    def next(self, what: str) -> str:
        """Return the next line, up to a comment."""
        if self.number >= len(self._lines):
            raise CrystalFileError(f'line {self.number + 1}: expected {what}, found the end of the file')
        self.number += 1
        self._what = what
        return self._lines[self.number - 1]

    def error(self, what: str) -> CrystalFileError:
        """Return the error that the last line is not `what`."""
        return CrystalFileError(f'line {self.number}: expected {what}, found {short(self._lines[self.number - 1])!r}')

    def numbers(self, what: str) -> list[float]:
        """Return the three numbers that the next line begins with."""
        values = _numbers(self.next(what).split()[:3])
        if values is None or len(values) < 3:
            raise self.error(f'three numbers, {what}')
        return values

    def flags(self) -> list[bool]:
        """Return whether the last line's coordinates are held, from the three flags behind them."""
        words = [word.strip('.').upper() for word in self._lines[self.number - 1].split()[3:6]]
        if len(words) < 3 or not set(words) <= set(_FLAGS):
            raise self.error('three of T and F behind the coordinates, because of `Selective dynamics`')
        return [_FLAGS[word] for word in words]


def _numbers(words: list[str]) -> list[float] | None:
    """Return `words` as numbers in Fortran's notation, or None where one is none."""
    if not all(_NUMBER.fullmatch(word) for word in words):
        return None
    return [float(word.lower().replace('d', 'e')) for word in words]


def _read_cell(lines: _Lines) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the factors of the x, y and z components, and the lattice vectors with them."""
    what = 'the scale: one number, or three above zero'
    words = lines.next(what).split()
    scales = [value[0] for word in words[:3] if (value := _numbers([word]))]
    first = _numbers(words[:1])
    if not first or len(scales) == 2 or scales[0] == 0 or (len(scales) == 3 and min(scales) <= 0):
        raise lines.error(what)
    scale = np.array(scales if len(scales) == 3 else scales[:1] * 3)
    cell = np.array([lines.numbers(f'lattice vector {k}') for k in (1, 2, 3)])
    with np.errstate(all='ignore'):
        volume = abs(np.linalg.det(cell * np.abs(scale) if len(scales) == 3 else cell))
        if not np.isfinite(volume) or volume <= 1e-9 * np.prod(np.linalg.norm(cell, axis=1)):
            raise CrystalFileError(
                'lines 3 to 5: expected lattice vectors that span a volume, found one or more in a plane'
            )
        if scale[0] < 0:
            scale = np.full(3, np.cbrt(-scale[0] / volume))
    return scale, cell * scale


def _read_species(lines: _Lines, path: Path) -> tuple[list[str], list[int], tuple[str, ...]]:
    """Return the elements, the number of atoms of each, and notes."""
    words = _before_comment(lines.next('the elements'))
    symbols: list[str] | None = None
    if words and not words[0].isdecimal():
        symbols = [potential_element(word, f'line {lines.number}') for word in words]
        words = _before_comment(lines.next('the number of atoms of each element'))
    if not words or not all(word.isascii() and word.isdecimal() and len(word) < 10 for word in words):
        raise lines.error('the number of atoms of each element')
    counts = [int(word) for word in words]
    if not 0 < sum(counts) <= MOST_ATOMS:
        raise lines.error(f'from 1 to {MOST_ATOMS:,} atoms')
    if symbols is not None:
        if len(symbols) != len(counts):
            raise CrystalFileError(
                f'line {lines.number}: expected {len(symbols)} numbers of atoms, one for each element, '
                f'found {len(counts)}'
            )
        return symbols, counts, isotope_note(symbols)
    symbols, potcar = _read_potcar(path, len(counts))
    return symbols, counts, (f'elements {" ".join(symbols)} from {potcar}', *isotope_note(symbols))


def _before_comment(line: str) -> list[str]:
    return re.split('[!#]', line, maxsplit=1)[0].split()


def _read_potcar(path: Path, count: int) -> tuple[list[str], str]:
    """Return the elements of the POTCAR beside `path`, and its name."""
    lacking = 'the file has no line of elements, as files of VASP 4'
    advice = 'write the elements on a line of their own before the numbers of atoms, or put its POTCAR beside it'
    names = [f'POTCAR{suffix}' for suffix in ('', *OPENERS)]
    there = next((path.with_name(name) for name in names if path.with_name(name).is_file()), None)
    if there is None:
        raise CrystalFileError(f'{lacking}, and no POTCAR is in its folder: {advice}')
    with open_text_file(there) as handle:
        titles = [
            line.split('=', 1)[1].split() for line in handle if line.split('=')[0].strip() == 'TITEL' and '=' in line
        ]
    symbols = [potential_element(words[1] if len(words) > 1 else '', f'{there.name}, TITEL') for words in titles]
    if len(symbols) != count:
        raise CrystalFileError(
            f'{lacking}: expected {count} elements in {there.name}, found {len(symbols)} '
            f'({" ".join(symbols)}): {advice}'
        )
    return symbols, there.name


def _make_atoms(
    numbers: list[int], cell: NDArray[np.float64], sites: NDArray[np.float64], mode: str, held: NDArray[np.bool_]
) -> Atoms:
    from ase import Atoms

    place = 'scaled_positions' if mode in {'D', 'F'} else 'positions'
    atoms = Atoms(numbers=numbers, cell=cell, pbc=True, **{place: sites})
    if held.any():
        atoms.set_constraint(make_constraints(~held, cell, cartesian=False))
    return atoms
