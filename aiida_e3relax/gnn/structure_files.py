"""Files of crystals, read in pieces, so that a file may be larger than the memory."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.gnn.errors import InputError
from aiida_e3relax.gnn.structures import Crystals, make_crystals

PIECE = 4096
"""Crystals read at a time: enough to sort them into batches of similar size, and some megabytes."""

_NEEDED = ('n_atoms', 'numbers', 'positions', 'cell')


def read_structures(paths: Sequence[str | Path]) -> Crystals:
    """Return all crystals of `paths`, in order: ``.npz`` files of this package, or any format that ASE reads.

    Every frame of a file with many is read. Raises InputError for a file that cannot be read.
    """
    return Crystals.concatenate(stream_structures(paths))


def stream_structures(paths: Sequence[str | Path], piece: int = PIECE) -> Iterator[Crystals]:
    """Yield the crystals of `read_structures`, about `piece` at a time; files with few share a piece."""
    if not paths:
        raise InputError('no structure file given: name at least one .npz or ASE-readable file')
    held: list[Crystals] = []
    for path in map(Path, paths):
        for crystals in _read_one(path, piece):
            held.append(crystals)
            if sum(map(len, held)) >= piece:
                yield Crystals.concatenate(held)
                held = []
    if held:
        yield Crystals.concatenate(held)


def count_structures(paths: Sequence[str | Path]) -> int | None:
    """Return the number of crystals in `paths`, or None where only reading them would tell."""
    total = 0
    for path in map(Path, paths):
        if path.suffix != '.npz' or not zipfile.is_zipfile(path):
            return None
        with zipfile.ZipFile(path) as archive:
            if 'n_atoms.npy' not in archive.namelist():
                return None
            with archive.open('n_atoms.npy') as handle:
                total += read_npy_header(handle)[0][0]
    return total


def _read_one(path: Path, piece: int) -> Iterator[Crystals]:
    if not path.is_file():
        raise InputError(f'{path}: no such file')
    done = 0
    try:
        for crystals in _read_npz(path, piece) if path.suffix == '.npz' else _read_ase(path, piece):
            yield crystals
            done += len(crystals)
    except InputError:
        raise
    except Exception as error:  # readers of foreign formats raise anything
        where = f' (after the first {done})' if done else ''
        raise InputError(f'{path}: cannot be read as crystals{where}: {type(error).__name__}: {error}') from error


def _read_npz(path: Path, piece: int) -> Iterator[Crystals]:
    with zipfile.ZipFile(path) as archive, ExitStack() as stack:
        found = [name.removesuffix('.npy') for name in archive.namelist()]
        if missing := set(_NEEDED) - set(found):
            raise InputError(
                f'{path}: arrays {sorted(missing)} are missing; expected n_atoms (S,), numbers (A,), '
                f'positions (A,3), cell (S,3,3), and optionally pbc (S,3) and labels (S,); found {found}'
            )
        members = {
            name: _Rows(stack.enter_context(archive.open(f'{name}.npy')))
            for name in (*_NEEDED, 'pbc', 'labels')
            if name in found
        }
        count = members['n_atoms'].count
        for start in range(0, count, piece) if count else [0]:
            taken = min(piece, count - start)
            n_atoms = members['n_atoms'].take(taken).astype(np.int64)
            atoms = int(n_atoms.sum())
            index = np.arange(start, start + taken)
            yield Crystals(
                n_atoms=n_atoms,
                numbers=members['numbers'].take(atoms).astype(np.int64),
                positions=members['positions'].take(atoms).astype(np.float64),
                cell=members['cell'].take(taken).astype(np.float64),
                pbc=members['pbc'].take(taken).astype(bool) if 'pbc' in members else np.ones((taken, 3), dtype=bool),
                labels=(members['labels'].take(taken) if 'labels' in members else index).astype(np.str_),
            )
        for name, rows in members.items():
            if rows.left:
                raise InputError(f'{path}: array `{name}` has {rows.left} more rows than `n_atoms` says')


class _Rows:
    """The rows of one member of an ``.npz``, from the first on; an array in Fortran's order is read whole."""

    def __init__(self, handle: IO[bytes]):
        self._handle = handle
        self._shape, fortran_order, self._dtype = read_npy_header(handle)
        if self._dtype.hasobject or not self._shape:
            raise ValueError(f'expected arrays of numbers or text, found {self._dtype} of shape {self._shape}')
        self.count = self.left = self._shape[0]
        self._whole = self._read(self.count).reshape(self._shape[::-1]).T if fortran_order else None

    def take(self, count: int) -> NDArray[Any]:
        """Return the next `count` rows."""
        if not 0 <= count <= self.left:
            raise ValueError(f'an array ends {count - self.left} rows before `n_atoms` does')
        start, self.left = self.count - self.left, self.left - count
        return self._read(count) if self._whole is None else self._whole[start : start + count]

    def _read(self, count: int) -> NDArray[Any]:
        shape = (count, *self._shape[1:])
        size = int(np.prod(shape)) * self._dtype.itemsize
        content = self._handle.read(size)
        if len(content) < size:
            raise ValueError('the file ends early')
        return np.frombuffer(content, dtype=self._dtype).reshape(shape)


def read_npy_header(handle: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return shape, whether in Fortran's order, and type of the array that `handle` begins with."""
    version = np.lib.format.read_magic(handle)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(handle)


def _read_ase(path: Path, piece: int) -> Iterator[Crystals]:
    import ase.io

    frames: list[Any] = []
    done = 0
    for frame in ase.io.iread(path, index=':'):
        frames.append(frame)
        if len(frames) > piece:  # one more is read before any is given, to know whether it is the only one
            yield _of_frames(path, frames[:piece], done, only=False)
            frames, done = frames[piece:], done + piece
    if not frames:
        raise InputError(f'{path}: holds no structure')
    yield _of_frames(path, frames, done, only=done == 0 and len(frames) == 1)


def _of_frames(path: Path, frames: list[Any], first: int, only: bool) -> Crystals:
    """Return ASE's `frames`, numbered in the file from `first`, as crystals."""
    labels = [path.stem] if only else [f'{path.stem}:{first + i}' for i in range(len(frames))]
    return make_crystals(
        [f.numbers for f in frames],
        [f.positions for f in frames],
        [f.cell.array for f in frames],
        labels,
        [f.pbc for f in frames],
    )
