"""Errors in files of crystals, each a message of one line for people."""

from __future__ import annotations

from aiida_e3relax.common.messages import describe_error


class CrystalFileError(ValueError):
    """A file, or a crystal in it, that cannot be used; the message says what was expected, found, and what to do."""


def explain(error: BaseException) -> str:
    """Return the message for people, on one line, about an exception of a reader."""
    if isinstance(error, CrystalFileError):
        return str(error)
    if isinstance(error, KeyError) and error.args and str(error.args[0]).isalpha():
        return f'{error.args[0]} is not known; if it is an element, give its usual symbol, as H for D and T'
    return describe_error(error)
