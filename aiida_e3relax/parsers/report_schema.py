"""What stands in `report.json`: the parts that are read later have their types, everything can be stored."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from aiida_e3relax.crystals.files import printable

SCHEMA = 1

MOST_DEPTH = 32
"""Containers within containers; the program nests five."""

LARGEST_WHOLE = 2**53
"""Whole numbers beyond it are none that a run counts, and other programs do not read them exactly."""

Count = Annotated[int, Field(strict=True, ge=0)]
Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0)]
Text = Annotated[str, Field(strict=True)]
Word = Annotated[str, Field(strict=True, min_length=1)]


class _Part(BaseModel):
    """A part of the report; keys that nothing reads may stand beside."""

    model_config = ConfigDict(extra='allow', frozen=True)


class _Opinion(_Part):
    """A second opinion on one structure: its numbers, or why there are none."""

    error: Text | None = None
    energy_input_eV_per_atom: Finite | None = None  # noqa: N815
    energy_prediction_eV_per_atom: Finite | None = None  # noqa: N815

    @model_validator(mode='after')
    def _has_numbers(self) -> Self:
        if self.error is None and None in (self.energy_input_eV_per_atom, self.energy_prediction_eV_per_atom):
            raise ValueError('expected `error`, or the energies of input and prediction')
        return self


class Row(_Part):
    """One structure; `ok`, or a word for what went wrong, and a message."""

    label: Word
    status: Word
    message: Text
    n_atoms: Count | None = None
    uncertainty_A: NotNegative | None = None  # noqa: N815
    second_opinion: _Opinion = Field(default=None)  # type: ignore[assignment]  # absent, or an opinion; null is neither


class Error(_Part):
    """Why a run predicted nothing: a code word such as `no_device`, and a message."""

    code: Word
    message: Text


class _Model(_Part):
    content_hash: Word


class _Device(_Part):
    used: Word


class Report(_Part):
    """The report of a run; what a run without an error always states must be there."""

    error: Error | None
    structures: list[Row] = []
    batches: list[list[Count]] = []
    model: _Model = Field(default=None)  # type: ignore[assignment]
    device: _Device = Field(default=None)  # type: ignore[assignment]
    timings_s: dict[str, NotNegative] = {}
    second_opinion: dict[str, Any] | None = None

    @model_validator(mode='before')
    @classmethod
    def _is_whole(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            raise ValueError(f'expected an object, found {type(content).__name__}')
        if type(content.get('schema')) is not int or content['schema'] != SCHEMA:
            raise ValueError(f'expected `schema` {SCHEMA}, found {content.get("schema")!r:.40}')
        needed = ['error'] if content.get('error', 0) else ['error', 'structures', 'model', 'device', 'timings_s']
        if missing := [key for key in needed if key not in content]:
            raise ValueError(f'`{missing[0]}` is missing')
        return content

    @model_validator(mode='after')
    def _fits_together(self) -> Self:
        if self.error is None:
            if 'total' not in self.timings_s:
                raise ValueError('`timings_s`: `total` is missing')
            for row in self.structures:
                if row.n_atoms is None or (row.status == 'ok' and row.n_atoms == 0):
                    raise ValueError(f'structure `{row.label}`: expected `n_atoms`, of which at least one is `ok`')
        if self.second_opinion is None and any('second_opinion' in row.model_fields_set for row in self.structures):
            raise ValueError('`second_opinion` is missing, but structures have one')
        return self


def parse_report(text: str) -> tuple[Report, dict[str, Any]]:
    """Return a report, checked, and all of it as plain values that any database stores.

    Characters that a terminal would obey stand as escapes in the texts.

    Raises ValueError, which says what was expected and found.
    """
    try:
        content = json.loads(
            text, parse_constant=_refuse_constant, parse_int=_whole, object_pairs_hook=_unique, parse_float=_finite
        )
    except RecursionError:
        raise ValueError(f'expected JSON at most {MOST_DEPTH} deep') from None
    except json.JSONDecodeError as error:
        raise ValueError(f'expected JSON, found {error}') from error
    content = _storable(content)
    try:
        return Report.model_validate(content), content
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise ValueError(_explain(first['loc'], first['msg'], first['input'])) from error


def _explain(place: Iterable[int | str], message: str, found: Any) -> str:
    """Return in one line what is wrong at a place of the report."""
    where = '.'.join(str(part) for part in place)
    told = message.removeprefix('Value error, ')
    told = told[:1].lower() + told[1:]
    if isinstance(found, dict):
        return f'`{where}`: {told}' if where else told
    return f'`{where or "the report"}`: {told}, found {found!r:.60}'


def _storable(value: Any, depth: int = 0) -> Any:
    """Return a JSON value with printable texts; raises ValueError where it is none that a database stores."""
    if depth > MOST_DEPTH:
        raise ValueError(f'expected JSON at most {MOST_DEPTH} deep')
    if isinstance(value, dict):
        if odd := [key for key in value if not key or not key.isprintable()]:
            raise ValueError(f'expected keys that are printable text, found {odd[0]!a:.40}')
        return {key: _storable(entry, depth + 1) for key, entry in value.items()}
    if isinstance(value, list):
        return [_storable(entry, depth + 1) for entry in value]
    if isinstance(value, str) and not value.isprintable():
        if '\0' in value or any('\ud800' <= c <= '\udfff' for c in value):
            raise ValueError(f'expected text, found {value!a:.60}')
        return printable(value)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError('an object has a key twice')
    return content


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
