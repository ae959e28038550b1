"""Pairs of unrelaxed and relaxed crystals: read, put right, split, stored as one ``.npz``."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.gnn.errors import InputError
from aiida_e3relax.gnn.progress import progress
from aiida_e3relax.gnn.structures import Crystals, make_crystals

SPLITS = ('train', 'val', 'test')
_IMAGES = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing='ij'), axis=-1).reshape(27, 3)


@dataclasses.dataclass(frozen=True)
class Pairs:
    """S pairs with the same sites in the same order in both crystals.

    Attributes
    ----------
    unrelaxed, relaxed
        The crystals before and after.
    split
        ``(S,)`` one of train, val, test.
    source
        ``(S,)`` the data set that each pair comes from.
    """

    unrelaxed: Crystals
    relaxed: Crystals
    split: NDArray[np.str_]
    source: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.unrelaxed)

    def select(self, indices: NDArray[np.int64]) -> Pairs:
        """Return the pairs at `indices`."""
        return Pairs(
            self.unrelaxed.select(indices), self.relaxed.select(indices), self.split[indices], self.source[indices]
        )

    def of_split(self, split: str) -> Pairs:
        """Return the pairs of one split."""
        return self.select(np.flatnonzero(self.split == split))

    @staticmethod
    def concatenate(parts: Iterable[Pairs]) -> Pairs:
        """Return the pairs of all `parts` together."""
        parts = list(parts)
        return Pairs(
            Crystals.concatenate(p.unrelaxed for p in parts),
            Crystals.concatenate(p.relaxed for p in parts),
            np.concatenate([p.split for p in parts]),
            np.concatenate([p.source for p in parts]),
        )


def nearest_image(difference: NDArray[np.float64], cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return fractional differences ``(A, 3)`` shifted by whole cells to the shortest Cartesian vector.

    `cells` ``(A, 3, 3)`` is each atom's cell, rows in A. The 27 images around the rounded difference are tried
    (E3Relax-H2, eq. 37).
    """
    rounded = difference - np.round(difference)
    candidates = rounded[:, None] + _IMAGES
    length = np.linalg.norm(np.einsum('aic,acx->aix', candidates, cells), axis=2)
    return candidates[np.arange(len(rounded)), length.argmin(axis=1)]


def aligned(pairs: Pairs) -> Pairs:
    """Return the pairs with their relaxed crystals in the frame of the unrelaxed ones.

    Three things that no relaxation does are taken out of the target: atoms that left the cell on one side and are
    written on the other (nearest image), the rigid shift of all atoms (the mean fractional displacement becomes zero),
    and the rotation between the two frames, which files written from lattice parameters contain (polar decomposition of
    the deformation: the relaxed cell becomes ``L_0 P`` with P symmetric and positive).

    Raises
    ------
    ValueError
        Where the two cells of a pair have opposite handedness; the message names the pairs.
    """
    before, after = pairs.unrelaxed, pairs.relaxed
    deformation = np.linalg.inv(before.cell) @ after.cell
    bad = np.flatnonzero(np.linalg.det(deformation) <= 0)
    if len(bad):
        raise ValueError(f'cells of opposite handedness in pairs {before.labels[bad].tolist()}: mirror one of the two')
    left, stretches, _ = np.linalg.svd(deformation)
    stretch = left * stretches[:, None] @ np.swapaxes(left, 1, 2)
    cell = before.cell @ stretch
    crystal, fractional = before.structure_index, before.fractional()
    difference = after.fractional() - fractional
    shift = np.angle(before.mean_over_atoms(np.exp(2j * np.pi * difference))) / (2 * np.pi)
    displacement = nearest_image(difference - shift[crystal], cell[crystal])
    displacement -= before.mean_over_atoms(displacement)[crystal]
    positions = np.einsum('ac,acx->ax', fractional + displacement, cell[crystal])
    return dataclasses.replace(pairs, relaxed=after.replace(positions, cell))


def write_pairs(path: str | Path, pairs: Pairs) -> None:
    """Write `pairs` as one ``.npz`` without pickles."""
    with Path(path).open('wb') as handle:
        np.savez_compressed(
            handle,
            n_atoms=pairs.unrelaxed.n_atoms.astype(np.int32),
            numbers=pairs.unrelaxed.numbers.astype(np.uint8),
            cell_unrelaxed=pairs.unrelaxed.cell,
            cell_relaxed=pairs.relaxed.cell,
            frac_unrelaxed=pairs.unrelaxed.fractional(),
            frac_relaxed=pairs.relaxed.fractional(),
            labels=pairs.unrelaxed.labels,
            split=pairs.split,
            source=pairs.source,
        )


def read_pairs(path: str | Path, name: str | None = None) -> Pairs:
    """Return the pairs, as filed, of a data set.

    Parameters
    ----------
    path
        An ``.npz`` written by `write_pairs`; one with the arrays of an element-substitution set (``donor_id`` and
        ``target_id`` instead of ``labels``); or a folder in the papers' layout: ``CIF/{id}_unrelaxed.cif``,
        ``CIF/{id}_relaxed.cif`` and ``train.csv``, ``val.csv``, ``test.csv`` with a column ``atoms_id``.
    name
        Name of the data set; default that of the file or folder.

    Raises
    ------
    InputError
        For anything else, and for pairs whose species or site order differ; the message names them.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path, name or path.resolve().name)
    if path.suffix != '.npz' or not path.is_file():
        raise InputError(f'{path}: expected an .npz of pairs or a folder with CIF/ and train|val|test.csv')
    with np.load(path, allow_pickle=False) as arrays:
        needed = {'n_atoms', 'numbers', 'cell_unrelaxed', 'cell_relaxed', 'frac_unrelaxed', 'frac_relaxed', 'split'}
        if missing := needed - set(arrays.files):
            raise InputError(f'{path}: arrays {sorted(missing)} are missing; found {arrays.files}')
        n_atoms = arrays['n_atoms'].astype(np.int64)
        if 'labels' in arrays:
            labels = arrays['labels']
        else:
            labels = np.char.add(np.char.add(arrays['donor_id'], '>'), arrays['target_id'])
        source = arrays['source'] if 'labels' in arrays and not name else np.full(len(n_atoms), name or path.stem)
        crystals = []
        for stage in ('unrelaxed', 'relaxed'):
            cell = arrays[f'cell_{stage}'].astype(np.float64)
            fractional = arrays[f'frac_{stage}'].astype(np.float64)
            positions = np.einsum('ac,acx->ax', fractional, np.repeat(cell, n_atoms, axis=0))
            numbers, pbc = arrays['numbers'].astype(np.int64), np.ones((len(n_atoms), 3), dtype=bool)
            crystals.append(Crystals(n_atoms, numbers, positions, cell, pbc, labels))
        return Pairs(crystals[0], crystals[1], arrays['split'], source)


def _read_folder(folder: Path, source: str) -> Pairs:
    rows = [(split, row) for split in SPLITS for row in _csv_ids(folder / f'{split}.csv')]
    before, after = [], []
    for _, name in progress(rows, f'reading {source}'):
        before.append(_read_cif(folder / 'CIF' / f'{name}_unrelaxed.cif'))
        after.append(_read_cif(folder / 'CIF' / f'{name}_relaxed.cif'))
    differing = [
        name for (_, name), a, b in zip(rows, before, after, strict=True) if a.numbers.tolist() != b.numbers.tolist()
    ]
    if differing:
        raise InputError(f'{folder}: species or site order differ within the pairs {differing}')
    labels = [name for _, name in rows]
    unrelaxed, relaxed = (
        make_crystals([a.numbers for a in s], [a.positions for a in s], [a.cell.array for a in s], labels)
        for s in (before, after)
    )
    return Pairs(unrelaxed, relaxed, np.array([split for split, _ in rows]), np.full(len(rows), source))


def _csv_ids(path: Path) -> list[str]:
    if not path.is_file():
        raise InputError(f'{path}: no such file; a data set folder holds train.csv, val.csv and test.csv')
    with path.open(newline='', encoding='utf-8') as handle:
        rows = list(csv.DictReader(handle))
    if rows and 'atoms_id' not in rows[0]:
        raise InputError(f'{path}: no column atoms_id; found {list(rows[0])}')
    return [row['atoms_id'] for row in rows]


def _read_cif(path: Path):
    import ase.io

    try:
        return ase.io.read(path, format='cif')
    except Exception as error:  # the CIF reader raises anything
        raise InputError(f'{path}: cannot be read: {type(error).__name__}: {error}') from error
