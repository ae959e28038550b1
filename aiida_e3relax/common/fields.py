"""Frozen dataclasses read from files of people: names, types, choices and bounds of their fields are checked."""

from __future__ import annotations

import dataclasses
import math
import reprlib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.common.messages import suggestion

T = TypeVar('T')

_WORDS: dict[type, str] = {
    int: 'a whole number',
    float: 'a number',
    str: 'a word',
    bool: 'true or false',
    dict: 'names and values',
    list: 'a list',
    type(None): 'null',
}


def choice(*options: str) -> Any:
    """Return a field that takes one of `options`, the first by default."""
    return dataclasses.field(default=options[0], metadata={'options': options})


def number(default: float | None, least: float, most: float = float('inf'), excludes_least: bool = False) -> Any:
    """Return a field with a `default` and bounds; these are inclusive, but for `least` where that is said."""
    return dataclasses.field(default=default, metadata={'bounds': (least, most), 'excludes_least': excludes_least})


def read_fields(cls: type[T], content: Any, where: str) -> T:
    """Return an instance of the dataclass `cls` made from the mapping `content`; what is absent takes its default.

    Raises
    ------
    InputError
        For a name that `cls` does not have, with the nearest one that it has, for one without a default that is absent,
        and for a value of another type, outside the bounds or not among the choices of its field. The message begins
        with `where`.
    """
    if not isinstance(content, Mapping):
        raise InputError(f'{where}: expected names and values, found {describe_value(content)}')
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for name, value in content.items():
        if name not in fields:
            raise InputError(f'{where}: unknown setting {reprlib.repr(name)}{suggestion(str(name)[:60], list(fields))}')
        if dataclasses.is_dataclass(hint := hints[name]):
            values[name] = read_fields(typing.cast(type, hint), value, f'{where}: {name}')
        else:
            values[name] = _checked(value, hint, fields[name].metadata, f'{where}: {name}')
    if absent := [name for name, field in fields.items() if name not in values and _is_required(field)]:
        raise InputError(f'{where}: expected the setting {absent[0]!r}, found none')
    return cls(**values)


def _is_required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _checked(value: Any, hint: Any, metadata: Mapping[str, Any], where: str) -> Any:
    """Return `value` if it is what the field's type `hint` and `metadata` ask for; whole numbers do as numbers."""
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    allowed = tuple(typing.get_origin(kind) or kind for kind in kinds)
    if float in allowed and type(value) is int and abs(value) < 2**53:
        value = float(value)
    if type(value) not in allowed:
        expected = ' or '.join(_WORDS.get(kind, kind.__name__) for kind in allowed)
        raise InputError(f'{where}: expected {expected}, found {describe_value(value)}')
    if type(value) is float and not math.isfinite(value):
        raise InputError(f'{where}: expected a finite number, found {value}')
    options = metadata.get('options')
    if options and value not in options:
        raise InputError(f'{where}: unknown choice {reprlib.repr(value)}{suggestion(value[:60], list(options))}')
    least, most = metadata.get('bounds', (None, None))
    if least is None or value is None:
        return value
    if metadata.get('excludes_least'):
        limit = f'above {least:g}' + ('' if most == float('inf') else f', up to {most:g}')
    else:
        limit = f'at least {least:g}' if most == float('inf') else f'from {least:g} to {most:g}'
    if not least <= value <= most or (value == least and metadata.get('excludes_least')):
        raise InputError(f'{where}: expected a number {limit}, found {describe_value(value)}')
    return value


def describe_value(value: Any) -> str:
    """Return a value from a file as it stands in a message, shortened: aliases may make it larger than any memory."""
    return f'the text {reprlib.repr(value)}' if isinstance(value, str) else reprlib.repr(value)
