"""The arrays of an ``.npz`` whose checksums are right: windows on the file where they lie in it uncompressed."""

from __future__ import annotations

import io
import math
import warnings
import zipfile
from pathlib import Path
from typing import IO, Literal

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.common.messages import printable
from aiida_e3relax.crystals.files.content import check_inflation
from aiida_e3relax.crystals.files.errors import explain
from aiida_e3relax.crystals.files.stream import read_npy_header

_LOCAL_HEADER = 30  # bytes before the name of a member (APPNOTE.TXT of the ZIP format, 4.3.7)
_CHUNK = 2**20


def read_archive(path: Path) -> tuple[dict[str, NDArray], dict[str, bytes]]:
    """Return the arrays of an ``.npz`` by name, mapped into memory, and the content of its other members.

    Every byte of every member is read once, for its checksum. Nothing is unpickled.

    Raises
    ------
    InputError
        For anything but an archive of plain arrays of text and numbers whose checksums are right.
    """
    arrays: dict[str, NDArray] = {}
    others: dict[str, bytes] = {}
    name = ''
    try:
        with zipfile.ZipFile(path) as archive, warnings.catch_warnings():
            warnings.simplefilter('ignore')  # numpy's, of headers that Python 2 wrote
            for member in archive.infolist():
                name = member.filename
                key = name.removesuffix('.npy')
                if key in arrays or name in others:
                    raise ValueError('occurs twice')
                check_inflation(member.compress_size, member.file_size)
                if key == name:
                    others[name] = archive.read(member)
                elif member.compress_type == zipfile.ZIP_STORED:
                    _check_checksum(archive, member)
                    arrays[key] = _mapped(path, member)
                else:
                    content = archive.read(member)
                    start, dtype, shape, order = _described(io.BytesIO(content), len(content))
                    arrays[key] = np.ndarray(shape, dtype, content, start, order=order)
    except Exception as error:  # damaged archives raise anything
        where = f': member {printable(name)}' if name else ''
        message = str(error) if isinstance(error, ValueError) else explain(error)
        raise InputError(
            f'{path}{where}: damaged, or not an .npz of plain arrays ({message}): copy or make the file again'
        ) from error
    return arrays, others


def _check_checksum(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Read a member to its end, where zipfile compares the checksum."""
    with archive.open(member) as stream:
        while stream.read(_CHUNK):
            pass


def _mapped(path: Path, member: zipfile.ZipInfo) -> NDArray:
    """Return the array of an uncompressed member as a read-only map of the file."""
    with path.open('rb') as handle:
        handle.seek(member.header_offset)
        header = handle.read(_LOCAL_HEADER)
        lengths = int.from_bytes(header[26:28], 'little') + int.from_bytes(header[28:30], 'little')  # name, extra field
        first = member.header_offset + _LOCAL_HEADER + lengths
        handle.seek(first)
        start, dtype, shape, order = _described(handle, first + member.file_size)
    if 0 in shape:
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, 'r', start, shape, order).view(np.ndarray)


def _described(handle: IO[bytes], end: int) -> tuple[int, np.dtype, tuple[int, ...], Literal['C', 'F']]:
    """Return where the data of an array begin, its type, shape and order; they must reach to `end`."""
    shape, fortran, dtype = read_npy_header(handle)
    if dtype.hasobject:
        raise ValueError('holds pickled objects, which are never loaded')
    start = handle.tell()
    if min(shape, default=0) < 0 or dtype.itemsize * math.prod(shape) != end - start:
        raise ValueError(f'expected {dtype} of shape {shape}, found {end - start} bytes')
    return start, dtype, shape, 'F' if fortran else 'C'
