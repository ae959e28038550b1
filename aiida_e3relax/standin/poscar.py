"""POSCAR and CONTCAR: a crystal with the order of its species and its selective dynamics."""

from dataclasses import dataclass

import numpy as np
from ase.data import atomic_numbers

from aiida_e3relax.common import fortran
from aiida_e3relax.common.messages import printable
from aiida_e3relax.standin.errors import StandInError, quote
from aiida_e3relax.standin.geometry import FractionalGeometry, find_geometry_fault

LARGEST = 1e12
"""Of the numbers in the file; no crystal needs larger ones, and products of these are finite."""
FARTHEST = 1e6
"""In lattice vectors: beyond it a coordinate loses digits that matter."""
SMALLEST_SCALE, LARGEST_SCALE = 1e-6, 1e6


@dataclass(frozen=True)
class Poscar:
    """A crystal as a POSCAR file gives it.

    Parameters
    ----------
    comment
        First line.
    species
        Element symbols in the order of the file; a symbol may come again.
    counts
        Number of atoms of each species.
    geometry
        Lattice and fractional coordinates.
    movable
        (n_atoms, 3) booleans for the fractional coordinates, or None without selective dynamics.
    """

    comment: str
    species: tuple[str, ...]
    counts: tuple[int, ...]
    geometry: FractionalGeometry
    movable: np.ndarray | None = None

    @property
    def symbols(self) -> list[str]:
        """Element symbol of every atom."""
        return [symbol for symbol, count in zip(self.species, self.counts, strict=True) for _ in range(count)]

    @classmethod
    def parse(cls, text: str) -> 'Poscar':
        """Read the VASP 5 format (species on line 6), direct or Cartesian, with or without selective dynamics.

        Raises
        ------
        StandInError
            If a line is missing, unreadable, or the lattice is singular, left-handed or not one of a crystal.
        """
        lines = _PoscarLines(text)
        comment = printable(lines.next('a comment').strip())
        scale = lines.numbers('one scale', 1)[0]
        cell = np.array([lines.numbers(f'lattice vector {k}', 3) for k in (1, 2, 3)])
        _check_lattice(cell)
        if scale < 0:  # the volume of the cell
            scale = float((-scale / np.linalg.det(cell)) ** (1 / 3))
        if not SMALLEST_SCALE <= scale <= LARGEST_SCALE:
            raise StandInError(f'POSCAR line 2: expected a scale that makes a cell of a crystal, found {scale:.3g}')
        cell = cell * scale
        species = tuple(word.split('_')[0].split('/')[0] for word in lines.next('the species').split())
        unknown = [symbol for symbol in species if atomic_numbers.get(symbol, 0) == 0]
        if unknown or not species:
            raise StandInError(
                f'POSCAR line 6: expected element symbols, found {quote(lines.now)}; write the VASP 5 format'
            )
        counts = _read_counts(lines, species)
        mode = lines.next('Selective dynamics, Direct or Cartesian').strip()[:1].lower()
        selective = mode == 's'
        if selective:
            mode = lines.next('Direct or Cartesian').strip()[:1].lower()
        if mode not in ('d', 'c', 'k'):
            raise StandInError(f'POSCAR line {lines.number}: expected Direct or Cartesian, found {quote(lines.now)}')
        rows, flags = _read_sites(lines, sum(counts), selective)
        scaled = rows if mode == 'd' else (rows * scale) @ np.linalg.inv(cell)
        geometry = FractionalGeometry(cell, scaled)
        if np.abs(scaled).max() > FARTHEST:
            raise StandInError(
                f'POSCAR: expected sites within {FARTHEST:.0e} lattice vectors, found one at '
                f'{np.abs(scaled).max():.3g}; correct the coordinates'
            )
        if fault := find_geometry_fault(geometry):
            raise StandInError(f'POSCAR: {fault}; correct the scale, the lattice vectors or the number of atoms')
        return cls(comment, species, counts, geometry, flags)

    def format(self, geometry: FractionalGeometry) -> str:
        """Write the crystal with another geometry as the text of a POSCAR in direct coordinates."""
        lines = [self.comment, '   1.00000000000000']
        lines += [' ' + ''.join(f'{value:22.16f}' for value in vector) for vector in geometry.cell]
        lines += [''.join(f'   {symbol:<4s}' for symbol in self.species)]
        lines += [''.join(f'{count:6d}' for count in self.counts)]
        if self.movable is not None:
            lines.append('Selective dynamics')
        lines.append('Direct')
        for number, site in enumerate(geometry.scaled):
            flags = '' if self.movable is None else ''.join(f'   {"FT"[int(free)]}' for free in self.movable[number])
            lines.append(''.join(f'{value:20.16f}' for value in site) + flags)
        return '\n'.join(lines) + '\n'


class _PoscarLines:
    """The lines of a POSCAR with errors that say which one is wrong."""

    def __init__(self, text: str):
        self.lines = text.split('\n')
        self.number = 0

    def next(self, what: str) -> str:
        self.number += 1
        if self.number > len(self.lines):
            raise StandInError(f'POSCAR line {self.number}: expected {what}, found the end of the file')
        return self.now

    @property
    def now(self) -> str:
        return self.lines[self.number - 1]

    def numbers(self, what: str, count: int) -> list[float]:
        """Return the numbers of the next line, which may end in words."""
        words = self.next(what).split()
        try:
            values = [fortran.real(word) for word in words[:count]]
        except ValueError:
            values = []
        if (
            len(values) < count
            or max(map(abs, values)) > LARGEST
            or any(fortran.is_number(word) for word in words[count:])
        ):
            raise StandInError(
                f'POSCAR line {self.number}: expected {what} ({count} number{"s" if count > 1 else ""} up to '
                f'{LARGEST:.0e}), found {quote(self.now)}'
            )
        return values


def _check_lattice(cell: np.ndarray) -> None:
    lengths = np.linalg.norm(cell, axis=1)
    product = float(np.linalg.det(cell))
    if not (np.isfinite(product) and product > 1e-12 * lengths.prod()):
        raise StandInError(
            f'POSCAR lines 3-5: the triple product of the lattice vectors must be positive, found {product:.6g}; '
            'exchange two lattice vectors or correct them'
        )


def _read_counts(lines: _PoscarLines, species: tuple[str, ...]) -> tuple[int, ...]:
    words = lines.next('atoms per species').split()
    try:
        counts = tuple(fortran.integer(word) for word in words)
    except ValueError:
        counts = ()
    if len(counts) != len(species) or min(counts) < 1:
        raise StandInError(
            f'POSCAR line {lines.number}: expected atoms per species ({len(species)} positive integers), found '
            f'{quote(lines.now)}'
        )
    left = len(lines.lines) - lines.number
    if sum(counts) > left:
        raise StandInError(f'POSCAR line {lines.number}: announces {sum(counts)} atoms, found {left} lines; correct it')
    return counts


def _read_sites(lines: _PoscarLines, n_atoms: int, selective: bool) -> tuple[np.ndarray, np.ndarray | None]:
    rows, flags = np.empty((n_atoms, 3)), np.ones((n_atoms, 3), bool)
    for k in range(n_atoms):
        rows[k] = lines.numbers(f'coordinates of atom {k + 1}', 3)
        if selective:
            line = lines.now
            words = [word.strip('.').upper()[:1] for word in line.split()[3:6]]
            if len(words) < 3 or not set(words) <= {'T', 'F'}:
                raise StandInError(f'POSCAR line {lines.number}: expected three of T and F, found {quote(line)}')
            flags[k] = [word == 'T' for word in words]
    return rows, flags if selective else None
