"""INCAR tags as people give them to aiida-vasp: numbers, logicals and lists, or the text that INCAR would have."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

from aiida_e3relax.common import fortran

STATIC_TAGS = {'nsw': 0, 'ibrion': -1}
"""INCAR tags of a run in which nothing moves."""


def incar_tags(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the INCAR tags in the input `parameters` of aiida-vasp, with lower-case names.

    Raises ValueError where they are no mapping.
    """
    tags = parameters.get('incar', {})
    if not isinstance(tags, Mapping):
        raise ValueError(f'`incar` must be a mapping such as {{encut: 520}}, found {reprlib.repr(tags)}')
    return {str(tag).lower(): value for tag, value in tags.items()}


def held_axes(tags: Mapping[str, Any]) -> list[int]:
    """Return the lattice vectors, each along an axis of its own, that LATTICE_CONSTRAINTS of `Freedom` holds."""
    words = str(tags.get('lattice_constraints', '')).split()
    return [axis for axis, word in enumerate(words) if not fortran.logical(word)]


def read_logical(tags: Mapping[str, Any], tag: str) -> bool:
    """Return whether a tag is on: YAML's true, or what VASP takes for it, such as `.TRUE.` or T; False without it.

    Raises ValueError for a value that is no logical.
    """
    value = tags.get(tag, False)
    if isinstance(value, bool):
        return value
    try:
        return fortran.logical(str(value).strip())
    except ValueError:
        raise ValueError(
            f'the INCAR tag {tag.upper()} must be .TRUE. or .FALSE., found {reprlib.repr(value)}; correct it'
        ) from None


def is_noncollinear(tags: Mapping[str, Any]) -> bool:
    """Return whether moments have three components; raises ValueError as `read_logical` does."""
    return read_logical(tags, 'lnoncollinear') or read_logical(tags, 'lsorbit')


def read_number(tags: Mapping[str, Any], tag: str, default: float) -> float:
    """Return the number of a tag, given as a number or as text; raises ValueError for anything else."""
    value = tags.get(tag, default)
    try:
        return fortran.real(str(value).strip())
    except ValueError:
        raise ValueError(
            f'the INCAR tag {tag.upper()} must be a number, found {reprlib.repr(value)}; correct it'
        ) from None


def count_numbers(tags: Mapping[str, Any], tag: str) -> int:
    """Return how many numbers the list of a tag has, repetitions such as `4*0.6` written out.

    Raises ValueError for anything but a text or a list of numbers.
    """
    value = tags[tag]
    words = value if isinstance(value, list | tuple) else str(value).split()
    try:
        return sum(fortran.repetition(str(word))[0] for word in words)
    except ValueError:
        raise ValueError(
            f'the INCAR tag {tag.upper()} must be one list of numbers such as [5, 0, 0] or "5 2*0", found '
            f'{reprlib.repr(value)}; correct it'
        ) from None


def write_tags(tags: Mapping[str, Any]) -> str:
    """Return tags as the lines of INCAR that aiida-vasp writes."""
    logicals = {True: '.TRUE.', False: '.FALSE.'}
    texts = {
        tag: ' '.join(map(str, value))
        if isinstance(value, list | tuple)
        else logicals[value]
        if isinstance(value, bool)
        else value
        for tag, value in tags.items()
    }
    return ''.join(f'{tag} = {text}\n' for tag, text in texts.items())
