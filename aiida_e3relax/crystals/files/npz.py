"""Arrays of an ``.npz``, read row by row: nothing is unpickled, and no more is held than was asked for."""

from __future__ import annotations

import math
import warnings
import zipfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.common.messages import describe_error, short
from aiida_e3relax.crystals.files.content import check_inflation
from aiida_e3relax.crystals.files.errors import CrystalFileError

LONGEST_TEXT = 1000
"""Characters in a text of an array."""

_CHUNK = 2**20
_SIZES = {'f': 32, 'i': 8, 'u': 8, 'b': 1, 'U': 4 * LONGEST_TEXT, 'S': LONGEST_TEXT}
"""Kinds of numpy's types that are read, and their largest size in bytes."""


class NpzFile:
    """The arrays `names` of an ``.npz`` as far as they are there, as a context; their checksums are right.

    Raises CrystalFileError for anything but an archive of plain arrays of numbers and text, before anything large is
    read: each array is as long as its header and the archive say.
    """

    def __init__(self, path: Path, names: Sequence[str]):
        self._stack = ExitStack()
        self.arrays: dict[str, Rows] = {}
        try:
            archive = self._stack.enter_context(zipfile.ZipFile(path))
            found = [member.filename for member in archive.infolist()]
            self.names = [name.removesuffix('.npy') for name in found]
            for name in names:
                if (count := found.count(f'{name}.npy')) > 1:
                    raise CrystalFileError(f'array `{name}` is {count} times in the archive, expected once')
                if count:
                    self.arrays[name] = self._open(archive, name)
        except CrystalFileError:
            self._stack.close()
            raise
        except Exception as error:  # damaged archives raise anything
            self._stack.close()
            raise CrystalFileError(
                f'expected an .npz, found {describe_error(error)}: make or copy the file again'
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _open(self, archive: zipfile.ZipFile, name: str) -> Rows:
        member = archive.getinfo(f'{name}.npy')
        if member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise CrystalFileError(f'array `{name}`: expected it stored or deflated, as numpy writes it')
        check_inflation(member.compress_size, member.file_size)
        try:
            with archive.open(member) as handle:  # the checksum is compared at the end
                while handle.read(_CHUNK):
                    pass
            return Rows(name, self._stack.enter_context(archive.open(member)), member.file_size)
        except CrystalFileError:
            raise
        except Exception as error:
            raise CrystalFileError(
                f'array `{name}` is damaged: {describe_error(error)}: make or copy the file again'
            ) from error


class Rows:
    """The rows of one array, from the first on; an array in Fortran's order is read whole.

    Attributes
    ----------
    count, left
        Number of rows in all, and of those not taken yet.
    shape, dtype
        As in the array's header.
    """

    def __init__(self, name: str, handle: IO[bytes], size: int):
        self._name, self._handle = name, handle
        self.shape, fortran_order, self.dtype = read_npy_header(handle)
        if self.dtype.kind not in _SIZES or self.dtype.itemsize > _SIZES[self.dtype.kind]:
            raise CrystalFileError(f'array `{name}`: expected numbers or text, found {short(self.dtype)}')
        if not self.shape or any(isinstance(n, bool) or n < 0 for n in self.shape):
            raise CrystalFileError(f'array `{name}`: expected rows, found the shape {short(self.shape)}')
        expected = math.prod(self.shape) * self.dtype.itemsize
        if handle.tell() + expected != size:
            raise CrystalFileError(
                f'array `{name}`: expected {expected:,} bytes by its header, found {size - handle.tell():,}: make or '
                'copy the file again'
            )
        self.count = self.left = self.shape[0]
        self._whole = self._read(self.count).reshape(self.shape[::-1]).T if fortran_order else None

    def check(self, kinds: str, words: str, shape: tuple[int, ...]) -> None:
        """Raise CrystalFileError unless the array holds numpy's `kinds`, called `words`, in the shape `shape`."""
        if self.dtype.kind not in kinds or self.shape != shape:
            raise CrystalFileError(
                f'array `{self._name}`: expected {words} of shape {shape}, found {self.dtype} of shape {self.shape}'
            )

    def take(self, count: int) -> NDArray[Any]:
        """Return the next `count` rows."""
        start, self.left = self.count - self.left, self.left - count
        return self._read(count) if self._whole is None else self._whole[start : start + count]

    def _read(self, count: int) -> NDArray[Any]:
        shape = (count, *self.shape[1:])
        content = self._handle.read(math.prod(shape) * self.dtype.itemsize)
        return (
            np.frombuffer(content, dtype=self.dtype).reshape(shape) if self.dtype.itemsize else np.zeros(shape, '<U1')
        )


def read_npy_header(handle: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return shape, whether in Fortran's order, and type of the array that `handle` begins with."""
    version = np.lib.format.read_magic(handle)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of headers that Python 2 wrote
        return read(handle)


def as_text(values: NDArray[Any]) -> NDArray[np.str_]:
    """Return an array of text or whole numbers as text; what is no character becomes U+FFFD."""
    if values.dtype.kind == 'S':
        values = np.char.decode(values, 'utf-8', 'replace')
    if values.dtype.kind != 'U':
        return values.astype(np.str_)
    codes = np.array(values, dtype=values.dtype.newbyteorder('=')).reshape(-1)
    if codes.dtype.itemsize:
        points = codes.view(np.uint32)
        points[(points > 0x10FFFF) | ((points >= 0xD800) & (points < 0xE000))] = 0xFFFD
    return codes.reshape(values.shape)
