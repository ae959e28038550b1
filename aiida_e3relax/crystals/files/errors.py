"""What is wrong with a file of crystals, in one line for a person."""

from __future__ import annotations

from pathlib import Path


class CrystalFileError(ValueError):
    """A file, or a crystal in it, that cannot be used; the message says what was expected, found, and what to do."""


def printable(text: str | Path) -> str:
    """Return `text` on one line, with characters that a terminal would obey or cannot show as escapes."""
    return ''.join(c if c.isprintable() else c.encode('unicode_escape').decode('ascii') for c in str(text))


def short(text: object, length: int = 60) -> str:
    """Return the first characters of `text`, printable, for a message."""
    found = printable(str(text)[: length + 1])
    return found if len(found) <= length else f'{found[: length - 3]}...'


def reason(error: BaseException) -> str:
    """Return what another library's exception says, on one line."""
    return f'{type(error).__name__}: {short(error, 200)}' if str(error) else type(error).__name__


def explain(error: BaseException) -> str:
    """Return what an exception of a reader means for a person, on one line."""
    if isinstance(error, CrystalFileError):
        return str(error)
    if isinstance(error, KeyError) and error.args and str(error.args[0]).isalpha():
        return f'{error.args[0]} is not known; if it is an element, give its usual symbol, as H for D and T'
    return reason(error)
