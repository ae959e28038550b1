"""Checks of the mappings that people write."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def check_keys(keys: Iterable[str], known: Sequence[str]) -> None:
    """Raise ValueError for the first of `keys` that is not `known`, with the nearest one that is."""
    for key in keys:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f'did you mean `{near[0]}`?' if near else f'known are {", ".join(known)}'
            raise ValueError(f'unknown key `{key}`; {hint}')


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of `base` with `changes` over it, mapping by mapping."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged
