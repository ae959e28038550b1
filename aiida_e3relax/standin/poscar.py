"""POSCAR and CONTCAR: a crystal with the order of its species and its selective dynamics."""

from dataclasses import dataclass

import numpy as np
from ase.data import atomic_numbers

from aiida_e3relax.standin.errors import InputError
from aiida_e3relax.standin.geometry import Geometry


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
    geometry: Geometry
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
        InputError
            If a line is missing, unreadable, or the lattice is singular or left-handed.
        """
        lines = _Lines(text)
        comment = lines.next('a comment').strip()
        scales = lines.numbers('the scale', None)
        cell = np.array([lines.numbers(f'lattice vector {k}', 3) for k in (1, 2, 3)])
        scale = _scale(scales, cell)
        cell = cell * scale
        _check_lattice(cell)
        species = tuple(word.split('_')[0].split('/')[0] for word in lines.next('the species').split())
        unknown = [symbol for symbol in species if atomic_numbers.get(symbol, 0) == 0]
        if unknown or not species:
            raise InputError(
                f'POSCAR line 6: expected element symbols, found {" ".join(species)!r}; write the VASP 5 format'
            )
        counts = tuple(int(number) for number in lines.numbers('atoms per species', len(species)))
        mode = lines.next('Selective dynamics, Direct or Cartesian').strip()
        selective = mode[:1] in 'sS'
        if selective:
            mode = lines.next('Direct or Cartesian').strip()
        rows, flags = _read_sites(lines, sum(counts), selective)
        cartesian = mode[:1] in ('c', 'C', 'k', 'K')
        scaled = (rows * scale) @ np.linalg.inv(cell) if cartesian else rows
        return cls(comment, species, counts, Geometry(cell, scaled), flags)

    def format(self, geometry: Geometry) -> str:
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


class _Lines:
    """The lines of a POSCAR with errors that say which one is wrong."""

    def __init__(self, text: str):
        self.lines = text.splitlines()
        self.number = 0

    def next(self, what: str) -> str:
        self.number += 1
        if self.number > len(self.lines):
            raise InputError(f'POSCAR line {self.number}: expected {what}, found the end of the file')
        return self.lines[self.number - 1]

    def numbers(self, what: str, count: int | None) -> list[float]:
        line = self.next(what)
        words = line.split()[:count]
        try:
            values = [float(word) for word in words]
        except ValueError:
            values = []
        if not values or (count is not None and len(values) < count) or not np.isfinite(values).all():
            raise InputError(f'POSCAR line {self.number}: expected {what} ({count or 1} numbers), found {line!r}')
        return values


def _scale(scales: list[float], cell: np.ndarray) -> float:
    if len(scales) != 1:
        raise InputError('POSCAR line 2: expected one scale, found several; scale the lattice vectors instead')
    if scales[0] < 0:  # the volume of the cell
        return float((-scales[0] / abs(np.linalg.det(cell))) ** (1 / 3))
    return scales[0]


def _check_lattice(cell: np.ndarray) -> None:
    volume = float(np.linalg.det(cell))
    if volume < 1e-6:
        raise InputError(
            f'POSCAR lines 3-5: the triple product of the lattice vectors must be positive, found {volume:.6g} A^3; '
            'exchange two lattice vectors or correct them'
        )


def _read_sites(lines: _Lines, n_atoms: int, selective: bool) -> tuple[np.ndarray, np.ndarray | None]:
    rows, flags = np.empty((n_atoms, 3)), np.ones((n_atoms, 3), bool)
    for k in range(n_atoms):
        rows[k] = lines.numbers(f'coordinates of atom {k + 1}', 3)
        if selective:
            line = lines.lines[lines.number - 1]
            words = [word.strip('.').upper()[:1] for word in line.split()[3:6]]
            if len(words) < 3 or not set(words) <= {'T', 'F'}:
                raise InputError(f'POSCAR line {lines.number}: expected three of T and F, found {line!r}')
            flags[k] = [word == 'T' for word in words]
    return rows, flags if selective else None
