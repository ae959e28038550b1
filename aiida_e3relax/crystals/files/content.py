"""Text of files, compressed or not, with a bound on how far it may inflate."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from aiida_e3relax.crystals.files.errors import CrystalFileError

OPENERS: dict[str, Callable[..., Any]] = {'.gz': gzip.open, '.bz2': bz2.open, '.xz': lzma.open}
FREE_INFLATION = 2**28
"""Bytes that any file may inflate to."""

MOST_INFLATION = 200
"""Times its size that a larger file may inflate to: text and arrays of crystals shrink ten-fold, or less."""


LONGEST_LINE = 2**24
"""Characters in a line; the longest are JSON in extxyz."""


def check_inflation(packed: int, unpacked: int) -> None:
    """Raise CrystalFileError where `packed` bytes inflate to more than any file of crystals would: `unpacked`."""
    if unpacked > max(FREE_INFLATION, MOST_INFLATION * packed):
        raise CrystalFileError(
            f'{packed:,} bytes inflate to {unpacked:,} or more, expected at most {MOST_INFLATION} times as many: if it '
            'is what you want, give the file uncompressed'
        )


def open_text_file(path: Path) -> IO[str]:
    """Return the text of a file, inflated by its last suffix, as a context; other bytes than UTF-8 are surrogates.

    Reading on raises CrystalFileError past the bound of `check_inflation`, far past the end, and in endless lines.
    """
    opener = OPENERS.get(path.suffix.lower())
    if opener is None:
        raw: Any = path.open('rb')
    else:
        raw = io.BufferedReader(_Bounded(opener(path, 'rb'), path.stat().st_size))
    head = raw.peek(4)[:3]
    return _Text(raw, encoding='utf-8-sig' if head == b'\xef\xbb\xbf' else 'utf-8', errors='surrogateescape')


def read_text(path: Path) -> str:
    """Return the whole text of a file of one or a few crystals; raises CrystalFileError where it is too large."""
    with open_text_file(path) as handle:
        text = handle.read(FREE_INFLATION + 1)
    if len(text) > FREE_INFLATION:
        raise CrystalFileError(f'expected a crystal in a text of at most {FREE_INFLATION:,} bytes, found more')
    return text


class _Text(io.TextIOWrapper):
    """A text that does not let a reader of lines go on for ever."""

    _past_the_end = 0

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
        line = super().readline(LONGEST_LINE if size < 0 else size)
        if not line:
            self._past_the_end += 1
            if self._past_the_end > 1000:  # a reader that counts on lines which the file does not have
                raise CrystalFileError('the file ends early')
        elif len(line) >= LONGEST_LINE and line[-1] != '\n':
            raise CrystalFileError(f'expected lines of at most {LONGEST_LINE:,} characters, found a longer one')
        return line


class _Bounded(io.RawIOBase):
    """A decompressed file that ends in an error where it grows out of proportion."""

    def __init__(self, source: IO[bytes], packed: int):
        self._source, self._packed = source, packed

    @property
    def name(self) -> str:
        """The file's name."""
        return str(self._source.name)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._source.seek(offset, whence)

    def tell(self) -> int:
        return self._source.tell()

    def readinto(self, buffer: Any) -> int:
        content = self._source.read(len(buffer))
        buffer[: len(content)] = content
        check_inflation(self._packed, self._source.tell())
        return len(content)

    def close(self) -> None:
        self._source.close()
        super().close()
