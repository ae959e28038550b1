"""One thing that a profile is to hold, once it is checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Step:
    """What is to be done for one thing.

    Attributes
    ----------
    kind, name
        What it is.
    todo
        `created` or `configured`, what will have been done; empty where the thing is there as it should be.
    make
        Does it; raises ValueError where it cannot.
    """

    kind: str
    name: str
    todo: str = ''
    make: Callable[[], object] = lambda: None


def list_differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Return in words where `found` is not as `wanted`, for what is wanted at all; empty where it is.

    Blank lines at the ends of texts make no difference.
    """

    def bare(value: Any) -> Any:
        return value.strip() if isinstance(value, str) else value

    asked = {name: value for name, value in wanted.items() if value is not None}
    return '; '.join(
        f'{name}: expected {value!r}, found {found.get(name)!r}'
        for name, value in asked.items()
        if bare(value) != bare(found.get(name))
    )
