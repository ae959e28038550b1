"""INCAR: the tags as written, and typed access to their values."""

import re

from aiida_e3relax.standin.errors import InputError


class Incar:
    """The tags of an INCAR file, names in capitals, values as text.

    Parameters
    ----------
    text
        Content of the file. As in VASP ``#`` and ``!`` start comments, ``;`` separates statements, a backslash at the
        end of a line continues it, and the first of two equal tags counts.

    Raises
    ------
    InputError
        If a statement is not of the form ``TAG = value``.
    """

    def __init__(self, text: str):
        self.tags: dict[str, str] = {}
        joined = re.sub(r'\\[ \t]*\n', ' ', text)
        for number, line in enumerate(joined.splitlines(), start=1):
            for statement in re.split(r'[#!]', line)[0].split(';'):
                if statement.strip():
                    self._add(statement.strip(), number)

    def _add(self, statement: str, number: int) -> None:
        match = re.fullmatch(r'([A-Za-z]\w*)\s*=\s*(.*\S)', statement)
        if match is None:
            raise InputError(f"INCAR line {number}: expected 'TAG = value', found {statement!r}; correct or remove it")
        self.tags.setdefault(match[1].upper(), match[2])

    def __contains__(self, tag: str) -> bool:
        return tag in self.tags

    def text(self, tag: str, default: str) -> str:
        """Return the value as written."""
        return self.tags.get(tag, default)

    def integer(self, tag: str, default: int) -> int:
        """Return the value as an integer."""
        return self._single(tag, default, int, 'an integer')

    def real(self, tag: str, default: float) -> float:
        """Return the value as a float; Fortran's exponent ``d`` is understood."""
        return self._single(tag, default, _real, 'a number')

    def logical(self, tag: str, default: bool) -> bool:
        """Return the value as a boolean: ``.TRUE.``, ``T``, ``.FALSE.``, ``F`` in any case."""
        return self._single(tag, default, _logical, '.TRUE. or .FALSE.')

    def reals(self, tag: str) -> list[float]:
        """Return a list of floats, with repetitions such as ``4*0.6`` written out."""
        values: list[float] = []
        for word in self.tags[tag].split():
            count, _, value = word.rpartition('*')
            values += [self._convert(tag, value, _real, 'a list of numbers')] * int(count or 1)
        return values

    def logicals(self, tag: str) -> list[bool]:
        """Return a list of booleans."""
        return [self._convert(tag, word, _logical, 'a list of .TRUE. and .FALSE.') for word in self.tags[tag].split()]

    def _single(self, tag, default, convert, expected):
        if tag not in self.tags:
            return default
        return self._convert(tag, self.tags[tag].split()[0], convert, expected)

    def _convert(self, tag, word, convert, expected):
        try:
            return convert(word)
        except ValueError:
            raise InputError(f'INCAR: {tag} must be {expected}, found {self.tags[tag]!r}; correct it') from None


def _real(word: str) -> float:
    return float(word.lower().replace('d', 'e'))


def _logical(word: str) -> bool:
    match = re.fullmatch(r'\.?([TF])[A-Z]*\.?', word.upper())
    if match is None:
        raise ValueError(word)
    return match[1] == 'T'
