"""Text of others in messages for people: on one line, printable and short."""

from __future__ import annotations

from pathlib import Path


def printable(text: str | Path) -> str:
    """Return `text` on one line, with characters that a terminal would obey or cannot show as escapes."""
    return ''.join(c if c.isprintable() else c.encode('unicode_escape').decode('ascii') for c in str(text))


def short(text: object, length: int = 60) -> str:
    """Return the first characters of `text`, printable, for a message."""
    found = printable(str(text)[: length + 1])
    return found if len(found) <= length else f'{found[: length - 3]}...'


def describe_error(error: BaseException) -> str:
    """Return the type and the message of another library's exception, on one line."""
    return f'{type(error).__name__}: {short(error, 200)}' if str(error) else type(error).__name__
