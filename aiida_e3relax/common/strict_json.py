"""A strict reader of JSON: only values that mean the same to every program and fit into a database. Needs no torch."""

from __future__ import annotations

import json
import math
import re
from typing import Any

MOST_DEPTH = 32
"""Containers within containers; the program nests seven."""

LARGEST_WHOLE = 2**53
"""Whole numbers beyond it are none that the program counts, and not every program reads them exactly."""


def parse_json(text: str) -> Any:
    """Return the value of a JSON text.

    Raises ValueError, which says what was expected and found: for what is no JSON, NaN and infinities included, keys
    that come twice or are no printable text, whole numbers beyond `LARGEST_WHOLE`, texts with the character zero or
    with halves of characters, and containers more than `MOST_DEPTH` deep.
    """
    try:
        value = json.loads(
            text, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_whole, object_pairs_hook=unique_keys
        )
    except RecursionError:
        raise ValueError(f'expected JSON at most {MOST_DEPTH} deep') from None
    except json.JSONDecodeError as error:
        raise ValueError(f'expected JSON, found {error}') from error
    _check(value, 0)
    return value


def finite(value: Any) -> Any:
    """Return a value to be written as JSON, with None in the place of numbers that are not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    return [finite(entry) for entry in value] if isinstance(value, list | tuple) else value


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs of an object as a mapping; ValueError for a key that comes twice."""
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            raise ValueError(f'expected each key of an object once, found {key!a:.60} twice')
        content[key] = value
    return content


def _check(value: Any, depth: int) -> None:
    """Raise ValueError for containers too deep, odd keys and odd texts."""
    if depth > MOST_DEPTH:
        raise ValueError(f'expected JSON at most {MOST_DEPTH} deep')
    if isinstance(value, dict):
        if odd := [key for key in value if not key or not key.isprintable()]:
            raise ValueError(f'expected keys that are printable text, found {odd[0]!a:.40}')
        value = list(value.values())
    if isinstance(value, list):
        for entry in value:
            _check(entry, depth + 1)
    elif isinstance(value, str) and re.search('[\0\ud800-\udfff]', value):
        raise ValueError(f'expected text, found {value!a:.60}')


def _refuse_constant(constant: str) -> None:
    raise ValueError(f'expected JSON, found the constant {constant}')


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f'expected finite numbers, found {digits[:20]}')
    return value


def _whole(digits: str) -> int:
    if len(digits) > 20 or abs(int(digits)) > LARGEST_WHOLE:
        raise ValueError(f'expected whole numbers up to {LARGEST_WHOLE}, found {digits[:24]}')
    return int(digits)
