"""The rules on the mappings by element or kind: potentials, moments and Hubbard corrections."""

from __future__ import annotations

import math
import numbers
import re
import reprlib
from collections.abc import Mapping
from typing import Any

from aiida import orm
from ase.data import atomic_numbers

from aiida_e3relax.workflows.vasp.inputs.species import ORBITALS

DEFAULT = 'default'
"""The key of `magmom_mapping` for all sites that no other key names."""
HUBBARD_KEYS = ('mapping', 'jmapping', 'utype', 'felec')
HUBBARD_TYPES = (1, 2, 3, 4)
"""The values of LDAUTYPE."""

_ELEMENT = re.compile(r'([A-Z][a-z]?)(?![a-z])')


def check_mappings(structure: orm.StructureData, mappings: Mapping[str, Any]) -> None:
    """Raise ValueError for what VASP would not get of the user's mappings, which are those of `species_mappings`.

    That is a key that names nothing, a value that is no moment or no correction, and a moment with three components in
    a collinear run. An entry None takes one of the protocol away.
    """
    check_keys_of_species('potential_mapping', mappings['potential_mapping'], structure)
    moments = mappings.get('magmom_mapping', {})
    check_keys_of_species('magmom_mapping', {key: moments[key] for key in moments if key != DEFAULT}, structure)
    for key, moment in moments.items():
        _check_moment(key, moment, mappings['noncollinear'])
    _check_hubbard(mappings.get('ldau_mapping', {}), structure)


def check_keys_of_species(name: str, mapping: Mapping[str, Any], structure: orm.StructureData) -> None:
    """Raise ValueError for a key of the mapping `name` that names no element and no kind.

    As one mapping may be for many structures, elements that `structure` lacks are taken, and kinds that it lacks, too,
    where these are of such elements, or of an element that has a key itself.
    """
    kinds, symbols = structure.get_kind_names(), structure.get_symbols_set()
    for key in map(str, mapping):
        if key in kinds or _is_element(key):
            continue
        near, match, hint = key.capitalize(), _ELEMENT.match(key), 'correct or remove it'
        if _is_element(near):
            hint = f'did you mean `{near}`?'
        elif match and _is_element(element := match[1]):
            if element not in symbols or element in mapping:
                continue
            hint = f'correct or remove it, or give `{element}` beside it what it is to have where there is no `{key}`'
        raise ValueError(
            f'`{name}`: `{key}` is neither an element nor a kind of the structure, whose kinds are '
            f'{", ".join(kinds)}; {hint}'
        )


def _is_element(symbol: str) -> bool:
    return atomic_numbers.get(symbol, 0) > 0


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def _check_moment(key: str, moment: Any, noncollinear: bool) -> None:
    is_vector = isinstance(moment, list | tuple) and len(moment) == 3 and all(map(_is_number, moment))
    if not (moment is None or _is_number(moment) or is_vector):
        raise ValueError(
            f'`magmom_mapping`: `{key}`: expected a moment in Bohr magnetons, or three components of one, found '
            f'{reprlib.repr(moment)}; correct it'
        )
    if is_vector and not noncollinear:
        raise ValueError(
            f'`magmom_mapping`: `{key}`: expected a number, as the run is collinear, found {moment}; give the INCAR '
            'tag LNONCOLLINEAR or LSORBIT beside it, or a number'
        )


def _check_hubbard(settings: Mapping[str, Any], structure: orm.StructureData) -> None:
    for key in settings:
        if key not in HUBBARD_KEYS:
            raise ValueError(
                f'`ldau_mapping`: unknown key `{key}`; expected `mapping`, `jmapping`, `utype` or `felec`, such as '
                '`{mapping: {Mn: [d, 3.9]}}`'
            )
    parts = {part: settings.get(part) or {} for part in ('mapping', 'jmapping')}
    for part, entries in parts.items():
        if not isinstance(entries, Mapping):
            raise ValueError(
                f'`ldau_mapping`: `{part}`: expected a mapping by element or kind, found {reprlib.repr(entries)}'
            )
        check_keys_of_species('ldau_mapping', entries, structure)
    for key, value in parts['mapping'].items():
        is_correction = isinstance(value, list | tuple) and len(value) == 2 and _is_number(value[1])
        if value is not None and not (is_correction and value[0] in [*ORBITALS]):
            raise ValueError(
                f'`ldau_mapping`: `mapping: {{{key}: ...}}`: expected an orbital, p, d or f, and U in eV, such as '
                f'[d, 3.9], found {reprlib.repr(value)}'
            )
    for key, value in parts['jmapping'].items():
        if value is not None and not _is_number(value):
            raise ValueError(
                f'`ldau_mapping`: `jmapping: {{{key}: ...}}`: expected a number, J in eV, found {reprlib.repr(value)}'
            )
    utype, felec = settings.get('utype', HUBBARD_TYPES[0]), settings.get('felec', False)
    if not _is_number(utype) or utype not in HUBBARD_TYPES:
        raise ValueError(f'`ldau_mapping`: `utype`: expected 1, 2, 3 or 4, found {reprlib.repr(utype)}')
    if not isinstance(felec, bool):
        raise ValueError(f'`ldau_mapping`: `felec`: expected true or false, found {reprlib.repr(felec)}')
