"""What came of one check of a live test."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

PASSED = 'passed'
FAILED = 'failed'
NOT_TESTED = 'not tested'


class CheckError(Exception):
    """A check that has failed: what was found, and the `remedy`."""

    def __init__(self, found: str, remedy: str):
        super().__init__(found)
        self.remedy = remedy


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of one check.

    Attributes
    ----------
    kind, name
        What was looked at.
    state
        `passed`, `failed` or `not tested`.
    found
        The numbers, or what was seen.
    remedy
        What to do where it failed.
    """

    kind: str
    name: str
    state: str
    found: str
    remedy: str = ''


def check(kind: str, name: str, look: Callable[[], str]) -> Outcome:
    """Return the outcome of `look`, which returns what it found, or raises CheckError."""
    try:
        return Outcome(kind, name, PASSED, look())
    except CheckError as error:
        return Outcome(kind, name, FAILED, str(error), error.remedy)
