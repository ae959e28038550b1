"""Numbers in columns of fixed width."""

from collections.abc import Iterable


def columns(values: Iterable[float], form: str) -> str:
    """Return the values one after the other, each in a format such as ``13.9f``."""
    return ''.join(format(value, form) for value in values)
