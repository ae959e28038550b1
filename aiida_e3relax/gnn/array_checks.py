"""Arrays of a data set as they must be: each check returns the array, or says in one line what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.crystals.files.errors import short
from aiida_e3relax.gnn.errors import InputError
from aiida_e3relax.gnn.validation import SMALLEST_DISTANCE, SMALLEST_VOLUME

FURTHEST = 1e4
"""Positions further than this (A) from the origin are no crystal's: single precision has no third decimal there."""


class ArrayChecks:
    """The arrays of the file at `path`, S crystals with A atoms in all as `n_atoms` says.

    Every method raises InputError with the file, the array, what was expected and what was found.
    """

    def __init__(self, path: Path, arrays: dict[str, NDArray]):
        self._path, self._arrays = path, arrays
        self._labels: NDArray[np.str_] | None = None
        counts = arrays.get('n_atoms', np.zeros(0))
        self._sizes = {'S': counts.shape[0] if counts.ndim else 0}
        self.n_atoms = self.whole('n_atoms', ('S',), least=1)
        self._sizes['A'] = int(self.n_atoms.sum())

    def whole(self, name: str, shape: Sequence[str | int], least: int, most: int = 2**31) -> NDArray[np.int64]:
        """Return an array of whole numbers from `least` to `most`."""
        values = self._of_kind(name, 'iu', 'whole numbers', shape)
        bad = np.flatnonzero((values < least) | (values > most))
        if len(bad):
            limits = f'from {least} to {most}' if most < 2**31 else f'from {least}'
            raise self._error(name, f'whole numbers {limits}', f'{values[bad[0]]} at {bad[0]}')
        return values.astype(np.int64, copy=False)

    def real(self, name: str, shape: Sequence[str | int], most: float | None = FURTHEST) -> NDArray[np.float64]:
        """Return an array of real numbers, whose magnitude is at most `most`; None allows anything, NaN too."""
        values = self._of_kind(name, 'iuf', 'real numbers', shape)
        if most is None:
            return values.astype(np.float64, copy=False)
        bad = np.flatnonzero(~(np.abs(values).reshape(len(values), -1).max(axis=1, initial=0) <= most))
        if len(bad):
            worst = values[bad[0]].ravel()
            found = worst[~(np.abs(worst) <= most)][0]
            raise self._error(name, f'numbers of at most {most:g}', f'{found} at {bad[0]}')
        return values.astype(np.float64, copy=False)

    def cells(self, name: str) -> NDArray[np.float64]:
        """Return the ``(S, 3, 3)`` cells of crystals that have room for their atoms."""
        cells = self.real(name, ('S', 3, 3))
        volume = np.abs(np.linalg.det(cells))
        self._check_each(
            name, volume >= SMALLEST_VOLUME * self.n_atoms, f'{SMALLEST_VOLUME:g} A^3 an atom', volume / self.n_atoms
        )
        width = cell_widths(cells)
        self._check_each(name, width >= SMALLEST_DISTANCE, f'cells at least {SMALLEST_DISTANCE} A wide', width)
        return cells

    def same_handedness(self, first: str, second: str) -> None:
        """Check that two arrays of cells have the same handedness, pair by pair."""
        signs = [np.sign(np.linalg.det(self._arrays[name])) for name in (first, second)]
        self._check_each(second, signs[0] == signs[1], f'the handedness of {first}', signs[1])

    def logical(self, name: str, shape: Sequence[str | int]) -> NDArray[np.bool_]:
        """Return an array of true and false."""
        return self._of_kind(name, 'b', 'true and false', shape)

    def text(self, name: str, choices: Sequence[str] | None = None) -> NDArray[np.str_]:
        """Return an array ``(S,)`` of text, one of `choices` where they are given."""
        values = self._of_kind(name, 'U', 'text', ('S',))
        if name == 'labels':
            self._labels = values
        if choices and not (known := np.isin(values, choices)).all():
            index = int(known.argmin())
            raise self._error(name, f'one of {", ".join(choices)}', f'{short(values[index])!r} at {index}')
        return values

    def _of_kind(self, name: str, kinds: str, words: str, shape: Sequence[str | int]) -> NDArray[Any]:
        """Return an array of the given kinds of numbers and shape."""
        named = f'({", ".join(map(str, shape))}{"," * (len(shape) == 1)})'
        if name not in self._arrays:
            raise InputError(
                f'{self._path}: the array `{name}`, {words} of shape {named}, is missing; found '
                f'{", ".join(sorted(self._arrays)[:16])}: make the file again with `e3relax data`'
            )
        values = self._arrays[name]
        expected = tuple(self._sizes[part] if isinstance(part, str) else part for part in shape)
        if values.dtype.kind not in kinds or values.shape != expected:
            found = f'{values.dtype} of shape {values.shape}'
            raise self._error(name, f'{words} of shape {named} = {expected}', found)
        return values

    def _check_each(self, name: str, good: NDArray[np.bool_], expected: str, found: NDArray[np.float64]) -> None:
        """Raise InputError for the first crystal that is not `good`."""
        if not good.all():
            index = int(good.argmin())
            label = '' if self._labels is None else f' ({short(self._labels[index])})'
            raise self._error(name, expected, f'{found[index]:.3g} at {index}{label}')

    def _error(self, name: str, expected: str, found: str) -> InputError:
        return InputError(
            f'{self._path}: array `{name}`: expected {expected}, found {found}: make the file again with `e3relax data`'
        )


def cell_widths(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ``(S,)`` smallest distances between opposite faces of cells ``(S, 3, 3)`` that have a volume, in A."""
    areas = np.linalg.norm(np.cross(np.roll(cells, -1, axis=1), np.roll(cells, -2, axis=1)), axis=2)
    return np.abs(np.linalg.det(cells)) / areas.max(axis=1)
