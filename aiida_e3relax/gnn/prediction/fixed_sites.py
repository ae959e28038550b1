"""Sites that are held in crystals whose format cannot say so, such as `.npz`. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.common.messages import printable, short
from aiida_e3relax.common.strict_json import parse_json
from aiida_e3relax.crystals.freedom.freedom import Freedom

FixedSites = Mapping[str, Mapping[str, Sequence[int]]]
"""For the label of a crystal the sites that are held, as `Freedom.fixed` has them."""


def read_fixed_sites(path: Path | None) -> FixedSites:
    """Return the sites that a JSON file holds, such as ``{"slab": {"abc": [0, 1], "c": [5]}}``; raises InputError."""
    if path is None:
        return {}
    try:
        content = parse_json(path.read_text(encoding='utf-8'))
        if not isinstance(content, dict):
            raise ValueError(f'expected sites for the labels of structures, found {type(content).__name__}')
        for label, fixed in content.items():
            try:
                Freedom(fixed=fixed)
            except ValueError as error:
                raise ValueError(f'{printable(label)}: {error}') from error
    except (OSError, ValueError) as error:
        reason = getattr(error, 'strerror', None) or error
        raise InputError(f'--fixed-sites {path}: {reason}') from error
    return content


def describe_unknown(labels: Iterable[str], known: Sequence[str]) -> str:
    """Return the message that no structure has any of `labels`; some that structures have are `known`."""
    told = short(', '.join(sorted(map(printable, labels))), 300)
    there = f'; labels are {short(", ".join(map(printable, known)), 300)}' if known else ''
    return f'--fixed-sites: no structure has the label {told}, so its sites are held nowhere{there}'
