"""A batch of crystals as flat arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
        with np.errstate(divide='ignore'):  # of vectors so short that their product is 0
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
        indices = np.asarray(indices, dtype=np.int64)
        atoms = self.atoms_of(indices)
        return Crystals(
            n_atoms=self.n_atoms[indices],
            numbers=self.numbers[atoms],
            positions=self.positions[atoms],
            cell=self.cell[indices],
            pbc=self.pbc[indices],
            labels=self.labels[indices],
        )

    def atoms_of(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the indices of the atoms of the crystals at `indices`, in that order."""
        indices = np.asarray(indices, dtype=np.int64)
        n_atoms = self.n_atoms[indices]
        shift = self.offsets[indices] - (np.cumsum(n_atoms) - n_atoms)
        return np.arange(n_atoms.sum()) + np.repeat(shift, n_atoms)

    def pieces(self, most_atoms: int) -> list[NDArray[np.int64]]:
        """Return the indices of the crystals in runs with about `most_atoms` atoms each, for work of bounded size."""
        run = (np.cumsum(self.n_atoms) - self.n_atoms) // most_atoms
        return np.split(np.arange(len(self)), np.flatnonzero(np.diff(run)) + 1)

    def replace(self, positions: NDArray[np.float64], cell: NDArray[np.float64]) -> Crystals:
        """Return the same crystals with other `positions` (A, 3) and `cell` (S, 3, 3), both in A."""
        return dataclasses.replace(self, positions=positions, cell=cell)

    def scaled_to(self, volumes: NDArray[np.float64]) -> Crystals:
        """Return the crystals scaled alike in all directions to `volumes` ``(S,)``, in A^3."""
        factor = np.cbrt(np.abs(volumes / self.volumes))
        return self.replace(self.positions * factor[self.structure_index, None], self.cell * factor[:, None, None])

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


def pymatgen_structure(crystals: Crystals, index: int) -> Any:
    """Return one crystal as a ``pymatgen.core.Structure``."""
    from pymatgen.core import Lattice, Structure

    atoms = slice(crystals.offsets[index], crystals.offsets[index + 1])
    lattice = Lattice(crystals.cell[index])
    return Structure(lattice, crystals.numbers[atoms].tolist(), crystals.positions[atoms], coords_are_cartesian=True)


def write_npz(path: str | Path, crystals: Crystals, **more: NDArray) -> None:
    """Write `crystals`, and `more` arrays beside them, as one ``.npz`` without pickles."""
    with Path(path).open('wb') as handle:
        arrays: dict[str, Any] = {f.name: getattr(crystals, f.name) for f in _FIELDS} | more
        np.savez(handle, **arrays)
