"""Files beside predicted crystals: geometries layer by layer, bonds, candidates. Any number, piece by piece."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.common.messages import short
from aiida_e3relax.common.output_files import partial_folder, writing
from aiida_e3relax.crystals.bonds import StatedBonds
from aiida_e3relax.crystals.files.errors import CrystalFileError
from aiida_e3relax.crystals.files.npz import NpzFile, Rows, as_text
from aiida_e3relax.crystals.files.suffixes import is_npz
from aiida_e3relax.crystals.files.writers import ArraysWriter, AseWriter
from aiida_e3relax.crystals.structures import Crystals

MOST_STEPS = 1000
"""Geometries of one crystal in a file that is read."""

MOST_BONDS = 1000
"""Bonds of an atom, on average over the file, in a file that is read."""

OF_BONDS = {
    'centre': 'centre',
    'neighbour': 'neighbour',
    'offset': 'offset',
    'predicted_length': 'predicted_length_A',
    'uncertainty': 'uncertainty_A',
    'final_length': 'final_length_A',
    'initial_length': 'initial_length_A',
}
"""The arrays of a file of bonds by the attributes of `StatedBonds`; each has a row for every bond."""

_COLUMNS = ('label', 'centre', 'neighbour', 'centre_element', 'neighbour_element', 'offset_a', 'offset_b', 'offset_c')


def layers_path(output: Path) -> Path:
    """Return the file of layers beside `output`: an ``.npz`` beside one, else a trajectory of ASE, exact in float64."""
    return output.with_name(f'{output.stem}.layers.{"npz" if is_npz(output) else "traj"}')


def bonds_path(output: Path) -> Path:
    """Return the file of bonds beside `output`: an ``.npz`` beside one, else CSV."""
    return output.with_name(f'{output.stem}.bonds.{"npz" if is_npz(output) else "csv"}')


def candidates_path(output: Path) -> Path:
    """Return the file of candidates beside `output`: an ``.npz`` beside one, else extended XYZ."""
    return output.with_name(f'{output.stem}.candidates.{"npz" if is_npz(output) else "extxyz"}')


class _CrystalsWriter:
    """A file of details with crystals: an ``.npz``, or what ASE writes."""

    def __init__(self, path: Path):
        self.path = path
        self._writer: ArraysWriter | AseWriter = ArraysWriter(path) if path.suffix == '.npz' else AseWriter(path)
        self._empty = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._writer.__exit__(*error)

    def close(self) -> None:
        """Put the file under its name; where there is nothing to write, one of an earlier run goes."""
        _finish(self._writer, self.path, self._empty)


class LayersWriter(_CrystalsWriter):
    """Crystals with T geometries each, from the input, step 0, to the prediction, the last.

    An ``.npz`` has the arrays of crystals, but ``positions`` ``(A, T, 3)`` and ``cell`` ``(S, T, 3, 3)``; a trajectory
    has T frames for one crystal after the other, ``label`` and ``layer`` in their ``info``.
    """

    def write(self, steps: Sequence[Crystals], movable: Sequence[NDArray[np.bool_] | None]) -> None:
        """Add crystals by their T geometries; `movable` is that of `AseWriter.write`."""
        first, count = steps[0], len(steps[0])
        if not count:
            return
        self._empty = False
        if isinstance(self._writer, ArraysWriter):
            arrays = {name: getattr(first, name) for name in ('labels', 'n_atoms', 'numbers', 'pbc')}
            arrays |= {name: np.stack([getattr(s, name) for s in steps], axis=1) for name in ('positions', 'cell')}
            self._writer.append(arrays)
            return
        order = np.arange(count * len(steps)).reshape(len(steps), count).T.reshape(-1)
        self._writer.write(
            Crystals.concatenate(steps).select(order),
            np.full(len(order), 'ok'),
            movable=[flags for flags in movable for _ in steps],
            info={'layer': list(range(len(steps))) * count},
        )


class CandidatesWriter(_CrystalsWriter):
    """Candidates of crystals, each with the label of its crystal, and what is said of it.

    That is ``candidate``, its number from 0 on, ``energy_eV_per_atom`` and ``unperturbed``: arrays beside those of the
    crystals in an ``.npz``, and in the ``info`` of frames elsewhere.
    """

    def write(
        self,
        candidates: Crystals,
        energies: NDArray[np.float64],
        unperturbed: NDArray[np.bool_],
        movable: NDArray[np.bool_] | None,
    ) -> None:
        """Add the candidates of one crystal, the lowest first; ``(N, 3)`` `movable` is that of each."""
        self._empty = False
        of_each = {
            'candidate': np.arange(len(candidates)),
            'energy_eV_per_atom': energies,
            'unperturbed': unperturbed,
        }
        if isinstance(self._writer, ArraysWriter):
            self._writer.append({f.name: getattr(candidates, f.name) for f in fields(candidates)} | of_each)
            return
        self._writer.write(
            candidates,
            np.full(len(candidates), 'ok'),
            movable=[movable] * len(candidates),
            info={name: values.tolist() for name, values in of_each.items()},
        )


class BondsWriter:
    """The bonds of crystals: as `OF_BONDS` with ``labels``, ``n_bonds``, ``n_atoms`` and ``numbers``, or as CSV."""

    def __init__(self, path: Path):
        self.path = path
        self._writer: ArraysWriter | _CsvWriter = ArraysWriter(path) if path.suffix == '.npz' else _CsvWriter(path)
        self._empty = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._writer.__exit__(*error)

    def write(self, crystals: Crystals, bonds: Sequence[StatedBonds]) -> None:
        """Add the bonds of `crystals`."""
        if not bonds:
            return
        self._empty = False
        arrays = {name: np.concatenate([getattr(one, field) for one in bonds]) for field, name in OF_BONDS.items()}
        counts = np.array([len(one) for one in bonds])
        if isinstance(self._writer, ArraysWriter):
            of_crystals = {name: getattr(crystals, name) for name in ('labels', 'n_atoms', 'numbers')}
            self._writer.append({**of_crystals, 'n_bonds': counts, **arrays})
        else:
            self._writer.write(crystals, counts, arrays)

    def close(self) -> None:
        """Put the file under its name; where there is nothing to write, one of an earlier run goes."""
        _finish(self._writer, self.path, self._empty)


class _CsvWriter:
    """One line a bond."""

    def __init__(self, path: Path):
        self.path = path
        self._stack = ExitStack()
        folder = self._stack.enter_context(partial_folder(path))
        self._partial = Path(folder) / 'whole'
        with writing(path):
            self._handle: IO[str] = self._stack.enter_context(self._partial.open('w', newline='', encoding='utf-8'))
        self._writer = csv.writer(self._handle)
        self._numbers = [name for name in OF_BONDS.values() if name.endswith('_A')]
        self._writer.writerow([*_COLUMNS, *self._numbers])

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def write(self, crystals: Crystals, counts: NDArray[np.int64], arrays: Mapping[str, NDArray[Any]]) -> None:
        from ase.data import chemical_symbols

        first_atom = np.repeat(crystals.offsets[:-1], counts)
        columns: list[list[Any]] = [
            np.repeat(crystals.labels, counts).tolist(),
            *(arrays[name].tolist() for name in ('centre', 'neighbour')),
            *(
                [chemical_symbols[number] for number in crystals.numbers[first_atom + arrays[name]].tolist()]
                for name in ('centre', 'neighbour')
            ),
            *arrays['offset'].T.tolist(),
            *(arrays[name].tolist() for name in self._numbers),
        ]
        with writing(self.path):
            self._writer.writerows(zip(*columns, strict=True))

    def close(self) -> None:
        with writing(self.path):
            self._handle.close()
            self._partial.replace(self.path)


def _finish(writer: ArraysWriter | AseWriter | _CsvWriter, path: Path, empty: bool) -> None:
    if not empty:
        writer.close()
        return
    with writing(path):
        path.unlink(missing_ok=True)


def read_layers(path: Path, given: Crystals) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return positions ``(T, N, 3)`` and cells ``(T, 3, 3)``, in A, by label, of an ``.npz`` that `LayersWriter` wrote.

    Parameters
    ----------
    path
        The file.
    given
        The crystals that it may be about, in their order; some may be missing.

    Raises
    ------
    CrystalFileError
        For a file that is missing or damaged, or that is about other crystals.
    """
    with _open(path, ('labels', 'n_atoms', 'numbers', 'positions', 'cell')) as arrays:
        crystals = _chosen(arrays, given)
        steps = arrays['cell'].shape[1] if len(arrays['cell'].shape) == 4 else 0
        if not 2 <= steps <= MOST_STEPS:
            raise CrystalFileError(
                f'array `cell`: expected from 2 to {MOST_STEPS} geometries of each crystal, found the shape '
                f'{arrays["cell"].shape}'
            )
        arrays['cell'].check('f', 'numbers', (len(crystals), steps, 3, 3))
        arrays['positions'].check('f', 'numbers', (len(crystals.numbers), steps, 3))
        read = {}
        for label, count in zip(crystals.labels.tolist(), crystals.n_atoms.tolist(), strict=True):
            positions = np.ascontiguousarray(arrays['positions'].take(count).transpose(1, 0, 2), dtype=np.float64)
            read[label] = positions, np.ascontiguousarray(arrays['cell'].take(1)[0], dtype=np.float64)
        return read


def read_bonds(path: Path, given: Crystals) -> dict[str, dict[str, NDArray[Any]]]:
    """Return the arrays of `OF_BONDS` by label, of an ``.npz`` that `BondsWriter` wrote.

    Parameters and errors are those of `read_layers`; numbers that are not finite or lengths below zero are errors, too.
    """
    with _open(path, ('labels', 'n_atoms', 'numbers', 'n_bonds', *OF_BONDS.values())) as arrays:
        crystals = _chosen(arrays, given)
        arrays['n_bonds'].check('iu', 'whole numbers', (len(crystals),))
        counts = arrays['n_bonds'].take(len(crystals)).tolist()
        total, most = sum(counts), MOST_BONDS * len(crystals.numbers)
        if min(counts, default=0) < 0 or total > most:
            raise CrystalFileError(f'array `n_bonds`: expected numbers from 0 on, {most} in all at most, found {total}')
        for name in OF_BONDS.values():
            is_number = name.endswith('_A')
            shape = (total, 3) if name == 'offset' else (total,)
            arrays[name].check('f' if is_number else 'iu', 'numbers' if is_number else 'whole numbers', shape)
        read = {}
        for label, n_atoms, count in zip(crystals.labels.tolist(), crystals.n_atoms.tolist(), counts, strict=True):
            of_one = {
                name: np.ascontiguousarray(arrays[name].take(count), np.float64 if name.endswith('_A') else np.int64)
                for name in OF_BONDS.values()
            }
            for name, values in of_one.items():
                if name in ('centre', 'neighbour') and not ((values >= 0) & (values < n_atoms)).all():
                    raise CrystalFileError(f'array `{name}`: expected sites from 0 to {n_atoms - 1} of `{label}`')
                if name.endswith('_A') and not (np.isfinite(values) & (values >= 0)).all():
                    raise CrystalFileError(f'array `{name}`: expected finite numbers from 0 on for `{label}`')
            read[label] = of_one
        return read


class _open:  # noqa: N801 (used as a function)
    """The arrays `names` of an ``.npz``, all of them, as a context."""

    def __init__(self, path: Path, names: Sequence[str]):
        if not path.is_file():
            raise CrystalFileError('no such file')
        self._file = NpzFile(path, names)
        if missing := [name for name in names if name not in self._file.arrays]:
            self._file.__exit__()
            raise CrystalFileError(f'array `{missing[0]}` is missing')

    def __enter__(self) -> dict[str, Rows]:
        return self._file.arrays

    def __exit__(self, *_: object) -> None:
        self._file.__exit__()


def _chosen(arrays: Mapping[str, Rows], given: Crystals) -> Crystals:
    """Return those of `given` that a file is about; raises CrystalFileError for others, or for another order."""
    count = arrays['labels'].count
    if count > len(given):
        raise CrystalFileError(f'array `labels`: expected at most {len(given)}, found {count}')
    arrays['n_atoms'].check('iu', 'whole numbers', (count,))
    places = {label: place for place, label in enumerate(given.labels.tolist())}
    found = as_text(arrays['labels'].take(count)).reshape(-1).tolist()
    chosen = [places.get(label, -1) for label in found]
    if chosen != sorted(set(chosen)) or (chosen and chosen[0] < 0):
        raise CrystalFileError(f'array `labels`: expected those of the input in its order, found {short(found, 80)}')
    crystals = given.select(chosen)
    arrays['numbers'].check('iu', 'whole numbers', (len(crystals.numbers),))
    for name in ('n_atoms', 'numbers'):
        if arrays[name].take(arrays[name].count).tolist() != getattr(crystals, name).tolist():
            raise CrystalFileError(f'array `{name}`: expected that of the input')
    return crystals
