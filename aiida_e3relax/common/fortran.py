"""Single words as Fortran reads them: numbers and logicals, without what only Python takes (``1_0``, ``nan``)."""

import re

_INTEGER = re.compile(r'[+-]?\d+', re.ASCII)
_REAL = re.compile(r'[+-]?(\d+\.?\d*|\.\d+)([edED][+-]?\d+)?', re.ASCII)
_LOGICAL = re.compile(r'\.?(T|TRUE|F|FALSE)\.?', re.IGNORECASE | re.ASCII)
_LARGEST_INTEGER = 2**31 - 1


def integer(word: str) -> int:
    """Return an integer of four bytes; raises ValueError for anything else."""
    if not _INTEGER.fullmatch(word) or len(word) > 12 or abs(int(word)) > _LARGEST_INTEGER:
        raise ValueError(f'no Fortran integer: {word!r}')
    return int(word)


def real(word: str) -> float:
    """Return a finite number, its exponent with ``e`` or ``d``; raises ValueError for anything else."""
    if not _REAL.fullmatch(word):
        raise ValueError(f'no Fortran number: {word!r}')
    value = float(word.lower().replace('d', 'e'))
    if abs(value) == float('inf'):
        raise ValueError(f'no Fortran number: {word!r}')
    return value


def logical(word: str) -> bool:
    """Return whether a word is ``.TRUE.`` or ``T``, in any case; raises ValueError if it is not ``.FALSE.`` either."""
    match = _LOGICAL.fullmatch(word)
    if match is None:
        raise ValueError(f'no Fortran logical: {word!r}')
    return match[1].upper().startswith('T')


def repetition(word: str) -> tuple[int, float]:
    """Return how often a number stands in a list, and the number: 4 and 0.6 for ``4*0.6``, 1 and 0.6 for ``0.6``.

    Raises ValueError for anything else.
    """
    count, star, number = word.rpartition('*')
    repeated = integer(count) if star else 1
    if repeated < 1:
        raise ValueError(f'no Fortran repetition: {word!r}')
    return repeated, real(number)


def is_number(word: str) -> bool:
    """Return whether a word is a number."""
    return bool(_REAL.fullmatch(word))
