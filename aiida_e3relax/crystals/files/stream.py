"""Files of crystals, read in pieces, so that a file may be larger than the memory."""

from __future__ import annotations

import dataclasses
import itertools
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.common.messages import printable
from aiida_e3relax.crystals.files.errors import CrystalFileError, explain
from aiida_e3relax.crystals.files.labels import labels_of
from aiida_e3relax.crystals.files.npz import NpzFile, Rows, as_text, read_npy_header
from aiida_e3relax.crystals.files.reader import Entry, check_file, iterate_crystals
from aiida_e3relax.crystals.files.suffixes import is_npz
from aiida_e3relax.crystals.structures import Crystals, make_crystals

if TYPE_CHECKING:
    from ase import Atoms

PIECE = 4096
"""Crystals read at a time: enough to sort them into batches of similar size, and some megabytes."""

MOST_ATOMS = 1_000_000
"""Atoms in a crystal that is read at all."""

_NEEDED = ('n_atoms', 'numbers', 'positions', 'cell')
_PIECE_ATOMS = 2**19
"""Atoms after which a piece ends, whatever its number of crystals."""


@dataclasses.dataclass(frozen=True)
class Unreadable:
    """A file, or a crystal in one, that cannot be used: its label, and a message that names the file."""

    label: str
    message: str


@dataclasses.dataclass(frozen=True)
class Piece:
    """Crystals that were read together.

    Attributes
    ----------
    crystals
        The crystals.
    notes
        For each, what a person should know of how it was read; mostly empty.
    atoms
        For each, what ASE read, with its constraints; None from an ``.npz``.
    unreadable
        What could not be used on the way.
    """

    crystals: Crystals
    notes: tuple[str, ...]
    atoms: tuple[Atoms | None, ...]
    unreadable: tuple[Unreadable, ...] = ()

    def __len__(self) -> int:
        return len(self.crystals)

    @staticmethod
    def concatenate(parts: Sequence[Piece]) -> Piece:
        """Return one piece of all `parts`."""
        return Piece(
            Crystals.concatenate(part.crystals for part in parts),
            tuple(itertools.chain.from_iterable(part.notes for part in parts)),
            tuple(itertools.chain.from_iterable(part.atoms for part in parts)),
            tuple(itertools.chain.from_iterable(part.unreadable for part in parts)),
        )


def read_crystal_files(paths: Sequence[str | Path]) -> Crystals:
    """Return all crystals of `paths`, in order: ``.npz`` files of this package, or any format that is read.

    Every frame of a file with many is read. Raises InputError for a file or a crystal that cannot be read.
    """
    pieces = list(stream_structures(paths))
    if faults := [fault for piece in pieces for fault in piece.unreadable]:
        raise InputError(faults[0].message)
    return Crystals.concatenate(piece.crystals for piece in pieces)


def stream_structures(paths: Sequence[str | Path], piece: int = PIECE) -> Iterator[Piece]:
    """Yield the crystals of `paths`, about `piece` at a time; files with few share a piece.

    Labels are those in an ``.npz``, and else made from the names of the files.
    """
    if not paths:
        raise InputError('no structure file given: name at least one .npz, CIF, POSCAR, extxyz, ...')
    held: list[Piece] = []
    for path, label in zip(map(Path, paths), labels_of(paths), strict=True):
        for part in _read_one(path, label, piece):
            held.append(part)
            if sum(map(len, held)) >= piece or sum(len(p.crystals.numbers) for p in held) >= _PIECE_ATOMS:
                yield Piece.concatenate(held)
                held = []
    if held:
        yield Piece.concatenate(held)


def count_structures(paths: Sequence[str | Path]) -> int | None:
    """Return the number of crystals in `paths`, or None where it is known only after reading them."""
    total = 0
    try:
        for path in map(Path, paths):
            if not is_npz(path):
                return None
            with zipfile.ZipFile(path) as archive, archive.open('n_atoms.npy') as handle:
                total += read_npy_header(handle)[0][0]
    except Exception:  # the error is reported where the file is read
        return None
    return total


def _read_one(path: Path, label: str, piece: int) -> Iterator[Piece]:
    """Yield the pieces of one file, and as the last what ended the reading before its end."""
    done = 0
    try:
        for part in _read_npz(path, piece) if is_npz(path) else _read_ase(path, label, piece):
            yield part
            done += len(part)
    except Exception as error:
        fault = Unreadable(label, describe_unreadable(path, error, done))
        yield Piece(make_crystals([], [], []), (), (), (fault,))


def describe_unreadable(path: Path, error: Exception, done: int = 0) -> str:
    """Return the message that a file cannot be read, from its error after the first `done` crystals."""
    message = explain(error)
    if message.startswith(printable(path)):
        return message
    where = f' (after the first {done})' if done else ''
    return f'{printable(path)}: cannot be read as crystals{where}: {message}'


def _read_npz(path: Path, piece: int) -> Iterator[Piece]:
    check_file(path)
    with NpzFile(path, (*_NEEDED, 'pbc', 'labels')) as file:
        arrays = file.arrays
        if missing := set(_NEEDED) - set(arrays):
            raise CrystalFileError(
                f'arrays {sorted(missing)} are missing; expected n_atoms (S,), numbers (A,), positions (A,3), '
                f'cell (S,3,3), and optionally pbc (S,3) and labels (S,); found '
                f'{sorted(map(printable, file.names))[:16]}'
            )
        arrays['n_atoms'].check('iu', 'whole numbers', (arrays['n_atoms'].count,))
        sizes = arrays['n_atoms'].take(arrays['n_atoms'].count)
        if len(sizes) and not 0 <= int(sizes.min()) <= int(sizes.max()) <= MOST_ATOMS:
            raise CrystalFileError(
                f'array `n_atoms`: expected 1 to {MOST_ATOMS:,} atoms in a crystal, found {sizes.min()} '
                f'to {sizes.max()}'
            )
        ends = np.cumsum(sizes, dtype=np.int64)
        _check(arrays, len(sizes), int(ends[-1]) if len(ends) else 0)
        start = 0
        while True:
            first_atom = int(ends[start - 1]) if start else 0
            full = int(np.searchsorted(ends, first_atom + _PIECE_ATOMS)) + 1
            stop = min(start + piece, full, len(sizes))
            yield _of_rows(arrays, sizes[start:stop].astype(np.int64), start)
            start = stop
            if start == len(sizes):
                break


def _check(arrays: dict[str, Rows], crystals: int, atoms: int) -> None:
    """Raise CrystalFileError unless the arrays are those of `crystals` with `atoms` in all."""
    for name, kinds, words, shape in (
        ('numbers', 'iu', 'whole numbers', (atoms,)),
        ('positions', 'fiu', 'real numbers', (atoms, 3)),
        ('cell', 'fiu', 'real numbers', (crystals, 3, 3)),
        ('pbc', 'biu', 'true or false', (crystals, 3)),
        ('labels', 'USiu', 'text', (crystals,)),
    ):
        if name in arrays:
            arrays[name].check(kinds, words, shape)


def _of_rows(arrays: dict[str, Rows], n_atoms: NDArray[np.int64], start: int) -> Piece:
    """Return the next crystals of an ``.npz``, with numbers `n_atoms`, from its crystal `start` on."""
    count, atoms = len(n_atoms), int(n_atoms.sum())
    labels = numbered = np.arange(start, start + count).astype(np.str_)
    if 'labels' in arrays:
        given = as_text(arrays['labels'].take(count))
        labels = np.where(given == '', numbered, given)
    numbers = np.minimum(arrays['numbers'].take(atoms), 2**7 - 1)  # no element, and in every type
    with np.errstate(over='ignore'):
        crystals = Crystals(
            n_atoms=n_atoms,
            numbers=numbers.astype(np.int64),
            positions=arrays['positions'].take(atoms).astype(np.float64),
            cell=arrays['cell'].take(count).astype(np.float64),
            pbc=arrays['pbc'].take(count).astype(bool) if 'pbc' in arrays else np.ones((count, 3), dtype=bool),
            labels=labels,
        )
    return Piece(crystals, ('',) * count, (None,) * count)


def _read_ase(path: Path, label: str, piece: int) -> Iterator[Piece]:
    """Yield the crystals of a file of any other format; those of many are numbered behind the label.

    A label that the file itself gives comes first.
    """
    entries: list[Entry] = []
    done, end = 0, None
    try:
        for entry in iterate_crystals(path):
            entries.append(entry)
            if len(entries) > piece:  # one more is read before any is given, to know whether it is the only one
                yield _of_entries(path, label, entries[:piece], done)
                entries, done = entries[piece:], done + piece
    except CrystalFileError as error:
        end = error
    if entries:
        yield _of_entries(path, label, entries, None if done == 0 and len(entries) == 1 and end is None else done)
    if end is not None:
        raise end


def _of_entries(path: Path, label: str, entries: list[Entry], first: int | None) -> Piece:
    """Return the crystals among `entries`, and what is wrong with the others; numbered from `first` where not None."""
    labels = [
        printable(entry.label) or (label if first is None else f'{label}:{first + place}')
        for place, entry in enumerate(entries)
    ]
    good = [(n, e.atoms, '; '.join(e.notes)) for n, e in zip(labels, entries, strict=True) if e.atoms is not None]
    frames = [atoms for _, atoms, _ in good]
    crystals = make_crystals(
        [f.numbers for f in frames],
        [f.positions for f in frames],
        [f.cell.array for f in frames],
        [name for name, _, _ in good],
        [f.pbc for f in frames],
    )
    unreadable = [
        Unreadable(name, f'{printable(path)}, {printable(entry.name) or f"structure {place}"}: {entry.fault}')
        for place, (name, entry) in enumerate(zip(labels, entries, strict=True), first or 0)
        if entry.atoms is None
    ]
    return Piece(crystals, tuple(note for _, _, note in good), tuple(frames), tuple(unreadable))
