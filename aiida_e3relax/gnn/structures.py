"""A batch of crystals as flat arrays, read from and written to files."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.gnn.errors import InputError

MAX_ATOMIC_NUMBER = 118


@dataclasses.dataclass(frozen=True)
class Crystals:
    """S crystals with A atoms in all, as flat arrays.

    Attributes
    ----------
    n_atoms
        ``(S,)`` number of atoms of each crystal; A is their sum.
    numbers
        ``(A,)`` atomic numbers, crystal after crystal.
    positions
        ``(A, 3)`` Cartesian positions in A.
    cell
        ``(S, 3, 3)`` lattice vectors as rows, in A.
    pbc
        ``(S, 3)`` periodic directions.
    labels
        ``(S,)`` names that messages and tables use.
    """

    n_atoms: NDArray[np.int64]
    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    cell: NDArray[np.float64]
    pbc: NDArray[np.bool_]
    labels: NDArray[np.str_]

    def __post_init__(self) -> None:
        n_structures, n_atoms_total = len(self.n_atoms), int(self.n_atoms.sum())
        expected = {
            'numbers': (n_atoms_total,),
            'positions': (n_atoms_total, 3),
            'cell': (n_structures, 3, 3),
            'pbc': (n_structures, 3),
            'labels': (n_structures,),
        }
        for name, shape in expected.items():
            found = getattr(self, name).shape
            if found != shape:
                raise ValueError(f'crystals: array `{name}` has shape {found}, expected {shape} from `n_atoms`')

    def __len__(self) -> int:
        return len(self.n_atoms)

    @property
    def offsets(self) -> NDArray[np.int64]:
        """``(S + 1,)`` index of each crystal's first atom; the last entry is A."""
        return np.concatenate([[0], np.cumsum(self.n_atoms)])

    @property
    def structure_index(self) -> NDArray[np.int64]:
        """``(A,)`` the crystal that each atom belongs to."""
        return np.repeat(np.arange(len(self)), self.n_atoms)

    @property
    def volumes(self) -> NDArray[np.float64]:
        """``(S,)`` cell volumes in A^3, positive for right-handed cells."""
        return np.linalg.det(self.cell)

    def fractional(self) -> NDArray[np.float64]:
        """Return the ``(A, 3)`` fractional coordinates, not wrapped."""
        inverse = np.linalg.inv(self.cell)[self.structure_index]
        return np.einsum('ax,axc->ac', self.positions, inverse)

    def mean_over_atoms(self, values: NDArray) -> NDArray:
        """Return the ``(S, n)`` mean over each crystal's atoms of `values` ``(A, n)``."""
        total = np.zeros((len(self), values.shape[1]), dtype=values.dtype)
        np.add.at(total, self.structure_index, values)
        return total / self.n_atoms[:, None]

    def with_centroids_of(self, other: Crystals) -> Crystals:
        """Return these crystals, each shifted rigidly so that its atoms' mean position is that of `other`."""
        shift = self.mean_over_atoms(other.positions - self.positions)
        return self.replace(self.positions + shift[self.structure_index], self.cell)

    def select(self, indices: Sequence[int] | NDArray[np.int64]) -> Crystals:
        """Return the crystals at `indices`, in that order."""
        offsets = self.offsets
        chosen = [np.arange(offsets[i], offsets[i + 1]) for i in indices]
        atoms = np.concatenate(chosen) if chosen else np.zeros(0, dtype=np.int64)
        indices = np.asarray(indices, dtype=np.int64)
        return Crystals(
            n_atoms=self.n_atoms[indices],
            numbers=self.numbers[atoms],
            positions=self.positions[atoms],
            cell=self.cell[indices],
            pbc=self.pbc[indices],
            labels=self.labels[indices],
        )

    def replace(self, positions: NDArray[np.float64], cell: NDArray[np.float64]) -> Crystals:
        """Return the same crystals with other `positions` (A, 3) and `cell` (S, 3, 3), both in A."""
        return dataclasses.replace(self, positions=positions, cell=cell)

    @staticmethod
    def concatenate(parts: Iterable[Crystals]) -> Crystals:
        """Return one batch holding the crystals of all `parts`."""
        parts = list(parts)
        return Crystals(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in _FIELDS})


_FIELDS = dataclasses.fields(Crystals)


def make_crystals(
    numbers: Sequence[Sequence[int] | NDArray[np.int64]],
    positions: Sequence[NDArray[np.float64]],
    cells: Sequence[NDArray[np.float64]],
    labels: Sequence[str] | None = None,
    pbc: Sequence[Sequence[bool] | NDArray[np.bool_]] | None = None,
) -> Crystals:
    """Return a batch from one entry per crystal.

    Parameters
    ----------
    numbers, positions, cells
        Per crystal: atomic numbers ``(N,)``, Cartesian positions ``(N, 3)`` and lattice vectors ``(3, 3)``, rows, in A.
    labels
        Names; default ``0``, ``1``, ...
    pbc
        Periodic directions per crystal; default all three.
    """
    count = len(numbers)
    return Crystals(
        n_atoms=np.array([len(z) for z in numbers], dtype=np.int64),
        numbers=np.concatenate([np.asarray(z, dtype=np.int64) for z in numbers] or [np.zeros(0, np.int64)]),
        positions=np.concatenate([np.reshape(p, (-1, 3)) for p in positions] or [np.zeros((0, 3))]).astype(np.float64),
        cell=np.array(cells, dtype=np.float64).reshape(count, 3, 3),
        pbc=np.ones((count, 3), dtype=bool) if pbc is None else np.array(pbc, dtype=bool).reshape(count, 3),
        labels=np.array([str(i) for i in range(count)] if labels is None else list(labels), dtype=np.str_),
    )


def read_structures(paths: Sequence[str | Path]) -> Crystals:
    """Return all crystals of `paths`, in order: ``.npz`` files of this package, or any format that ASE reads.

    Every frame of a file with many is read. Raises InputError for a file that cannot be read.
    """
    if not paths:
        raise InputError('no structure file given: name at least one .npz or ASE-readable file')
    return Crystals.concatenate(_read_one(Path(path)) for path in paths)


def _read_one(path: Path) -> Crystals:
    if not path.is_file():
        raise InputError(f'{path}: no such file')
    try:
        return _read_npz(path) if path.suffix == '.npz' else _read_ase(path)
    except InputError:
        raise
    except Exception as error:  # readers of foreign formats raise anything
        raise InputError(f'{path}: cannot be read as crystals: {type(error).__name__}: {error}') from error


def _read_npz(path: Path) -> Crystals:
    with np.load(path, allow_pickle=False) as arrays:
        missing = {'n_atoms', 'numbers', 'positions', 'cell'} - set(arrays.files)
        if missing:
            raise InputError(
                f'{path}: arrays {sorted(missing)} are missing; expected n_atoms (S,), numbers (A,), '
                f'positions (A,3), cell (S,3,3), and optionally pbc (S,3) and labels (S,); found {arrays.files}'
            )
        n_atoms = arrays['n_atoms'].astype(np.int64)
        count = len(n_atoms)
        return Crystals(
            n_atoms=n_atoms,
            numbers=arrays['numbers'].astype(np.int64),
            positions=arrays['positions'].astype(np.float64),
            cell=arrays['cell'].astype(np.float64),
            pbc=arrays['pbc'].astype(bool) if 'pbc' in arrays else np.ones((count, 3), dtype=bool),
            labels=arrays['labels'].astype(np.str_) if 'labels' in arrays else np.arange(count).astype(np.str_),
        )


def _read_ase(path: Path) -> Crystals:
    import ase.io

    frames = ase.io.read(path, index=':')
    if not frames:
        raise InputError(f'{path}: holds no structure')
    labels = [path.stem] if len(frames) == 1 else [f'{path.stem}:{i}' for i in range(len(frames))]
    return make_crystals(
        [f.numbers for f in frames],
        [f.positions for f in frames],
        [f.cell.array for f in frames],
        labels,
        [f.pbc for f in frames],
    )


def write_npz(path: str | Path, crystals: Crystals, **more: NDArray) -> None:
    """Write `crystals`, and `more` arrays beside them, as one ``.npz`` without pickles."""
    with Path(path).open('wb') as handle:
        arrays: dict[str, Any] = {f.name: getattr(crystals, f.name) for f in _FIELDS} | more
        np.savez(handle, **arrays)


def check_writable(path: Path, count: int) -> None:
    """Raise InputError unless `count` crystals can be written to `path`, before anything is computed."""
    if not path.parent.is_dir():
        raise InputError(f'{path}: the folder {path.parent} does not exist')
    if path.suffix == '.npz':
        return
    from ase.io.formats import filetype, ioformats

    name = filetype(path, read=False)
    if name not in ioformats:
        raise InputError(f'{path}: ASE knows no format of this name; use .npz, .cif, .vasp or .extxyz')
    format_ = ioformats[name]
    if not format_.can_write or (count > 1 and format_.single):
        raise InputError(f'{path}: {format_.name} cannot hold {count} structures; use .npz or .extxyz')


def write_ase(path: str | Path, crystals: Crystals) -> None:
    """Write `crystals` in the format that ASE gives to the file's suffix, one frame a crystal."""
    import ase
    import ase.io

    ends = crystals.offsets[1:-1]
    frames = [
        ase.Atoms(numbers=z, positions=p, cell=c, pbc=b, info={'label': str(label)})
        for z, p, c, b, label in zip(
            np.split(crystals.numbers, ends),
            np.split(crystals.positions, ends),
            crystals.cell,
            crystals.pbc,
            crystals.labels,
            strict=True,
        )
    ]
    ase.io.write(path, frames if len(frames) > 1 else frames[0])
