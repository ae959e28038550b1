"""Arrays of a data set as they must be: each check returns the array, or says in one line what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.common.messages import short
from aiida_e3relax.crystals.pairs import SPLIT_NAMES, is_split


class ArrayChecks:
    """The arrays of the file at `path`, S crystals with A atoms in all as `n_atoms` says.

    Every method raises InputError with the file, the array, what was expected and what was found.
    """

    def __init__(self, path: Path, arrays: dict[str, NDArray]):
        self._path, self._arrays = path, arrays
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

    def real(self, name: str, shape: Sequence[str | int]) -> NDArray[np.float64]:
        """Return an array of real numbers, NaN among them."""
        return self._of_kind(name, 'iuf', 'real numbers', shape).astype(np.float64, copy=False)

    def logical(self, name: str, shape: Sequence[str | int]) -> NDArray[np.bool_]:
        """Return an array of true and false."""
        return self._of_kind(name, 'b', 'true and false', shape)

    def text(self, name: str) -> NDArray[np.str_]:
        """Return an array ``(S,)`` of text."""
        return self._of_kind(name, 'U', 'text', ('S',))

    def split(self) -> NDArray[np.str_]:
        """Return the names of splits ``(S,)``."""
        values = self.text('split')
        unknown = [name for name in np.unique(values).tolist() if not is_split(name)]
        if unknown:
            index = int((values == unknown[0]).argmax())
            raise self._error('split', SPLIT_NAMES, f'{short(unknown[0])!r} at {index}')
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

    def _error(self, name: str, expected: str, found: str) -> InputError:
        return InputError(
            f'{self._path}: array `{name}`: expected {expected}, found {found}: make the file again with `e3relax data`'
        )
