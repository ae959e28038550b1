"""Messages for people: text of others on one printable line, what a misspelt name may stand for, and results."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence
from pathlib import Path


def printable(text: str | Path) -> str:
    """Return `text` on one line, with characters that a terminal would obey or cannot show as escapes."""
    return ''.join(c if c.isprintable() else c.encode('unicode_escape').decode('ascii') for c in str(text))


def short(text: object, length: int = 60) -> str:
    """Return the first characters of `text`, printable, for a message."""
    found = printable(str(text)[: length + 1])
    return found if len(found) <= length else f'{found[: length - 3]}...'


def print_result(text: str) -> None:
    """Print in a line what came of a run whose files are in place.

    That stdout cannot take it, as a pipe that nobody reads any more, is no failure of the run: the line is lost.
    Characters that its encoding lacks become escapes.
    """
    encoding = getattr(sys.stdout, 'encoding', None) or 'utf-8'  # there is no stdout where it was closed
    try:
        print(text.encode(encoding, 'backslashreplace').decode(encoding), flush=True)
    except OSError:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())  # Python tries once more to write what is left, when it ends
        os.close(nothing)


def count_of(count: int, one: str, several: str = '') -> str:
    """Return a number with its noun, `one` or `several`; these are by default `one` with an s."""
    return f'{count:,} {one if count == 1 else several or f"{one}s"}'


def name_some(names: Sequence[str], most: int = 4, separator: str = ',') -> str:
    """Return the first names, or sentences with `;` between them, at `most` so many, and how many more there are."""
    before = ' ' if separator == ',' else f'{separator} '
    more = f'{before}and {len(names) - most} more' if len(names) > most else ''
    return f'{f"{separator} ".join(names[:most])}{more}'


def describe_error(error: BaseException) -> str:
    """Return the type and the message of another library's exception, on one line."""
    return f'{type(error).__name__}: {short(error, 200)}' if str(error) else type(error).__name__


def suggestion(word: str, known: Sequence[str]) -> str:
    """Return the end of a message about an unknown `word`: the name that it is nearest to, or all that are known."""
    near = difflib.get_close_matches(word, known, 1)
    return f': did you mean {near[0]!r}?' if near else f'; known: {", ".join(known)}'
