"""INCAR: the tags as written, and typed access to their values."""

import re
from collections.abc import Callable
from typing import TypeVar

from aiida_e3relax.common import fortran
from aiida_e3relax.standin.errors import StandInError, quote

MOST_VALUES = 1_000_000
"""The longest list that a repetition such as ``4*0.6`` may stand for."""

Value = TypeVar('Value')


class Incar:
    """The tags of an INCAR file, names in capitals, values as text.

    Parameters
    ----------
    text
        Content of the file. As in VASP ``#`` and ``!`` start comments, ``;`` separates statements, and a backslash at
        the end of a line continues it.

    Raises
    ------
    StandInError
        If a statement is not of the form ``TAG = value``, or a tag comes again with another value.
    """

    def __init__(self, text: str):
        self.tags: dict[str, str] = {}
        joined = re.sub(r'\\[ \t]*\n', ' ', text)
        for number, line in enumerate(joined.split('\n'), start=1):
            for statement in re.split(r'[#!]', line)[0].split(';'):
                if statement.strip():
                    self._add(statement.strip(), number)

    def _add(self, statement: str, number: int) -> None:
        match = re.fullmatch(r'([A-Za-z]\w*)\s*=\s*(.*\S)', statement, re.ASCII)
        if match is None:
            raise StandInError(
                f"INCAR line {number}: expected 'TAG = value', found {quote(statement)}; correct or remove it"
            )
        tag, value = match[1].upper(), match[2]
        if self.tags.setdefault(tag, value) != value:
            raise StandInError(
                f'INCAR line {number}: {tag} = {quote(value)}, but {quote(self.tags[tag])} above; remove one of them'
            )

    def __contains__(self, tag: str) -> bool:
        return tag in self.tags

    def text(self, tag: str, default: str) -> str:
        """Return the value as written."""
        return self.tags.get(tag, default)

    def integer(self, tag: str, default: int) -> int:
        """Return the value as an integer."""
        return self._single(tag, default, fortran.integer, 'an integer')

    def real(self, tag: str, default: float) -> float:
        """Return the value as a float; Fortran's exponent ``d`` is understood."""
        return self._single(tag, default, fortran.real, 'a number')

    def logical(self, tag: str, default: bool) -> bool:
        """Return the value as a boolean: ``.TRUE.``, ``T``, ``.FALSE.``, ``F`` in any case."""
        return self._single(tag, default, fortran.logical, '.TRUE. or .FALSE.')

    def integers(self, tag: str) -> list[int]:
        """Return a list of integers, with repetitions such as ``4*2`` written out."""
        return self._list(tag, fortran.integer, 'a list of integers')

    def reals(self, tag: str) -> list[float]:
        """Return a list of floats, with repetitions such as ``4*0.6`` written out."""
        return self._list(tag, fortran.real, 'a list of numbers')

    def logicals(self, tag: str) -> list[bool]:
        """Return a list of booleans."""
        return self._list(tag, fortran.logical, 'a list of .TRUE. and .FALSE.')

    def _list(self, tag: str, convert: Callable[[str], Value], expected: str) -> list[Value]:
        values: list[Value] = []
        for word in self.tags[tag].split():
            count, star, value = word.rpartition('*')
            repeated = self._convert(tag, count, fortran.integer, expected) if star else 1
            if not 1 <= repeated <= MOST_VALUES - len(values):
                raise StandInError(
                    f'INCAR: {tag} must be {expected}, from 1 to {MOST_VALUES:,} of them, found {quote(word)}; correct '
                    'it'
                )
            values += [self._convert(tag, value, convert, expected)] * repeated
        return values

    def _single(self, tag: str, default: Value, convert: Callable[[str], Value], expected: str) -> Value:
        """Return a single value; words after it are a comment, a number there is not."""
        if tag not in self.tags:
            return default
        word, *rest = self.tags[tag].split(maxsplit=2)
        if rest and fortran.is_number(rest[0]):
            raise self._error(tag, expected)
        return self._convert(tag, word, convert, expected)

    def _convert(self, tag: str, word: str, convert: Callable[[str], Value], expected: str) -> Value:
        try:
            return convert(word)
        except ValueError:
            raise self._error(tag, expected) from None

    def _error(self, tag: str, expected: str) -> StandInError:
        return StandInError(f'INCAR: {tag} must be {expected}, found {quote(self.tags[tag])}; correct it')
