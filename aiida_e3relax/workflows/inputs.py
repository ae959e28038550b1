"""Checks of the chain's inputs, before anything runs. Each returns what is wrong, or None."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm

from aiida_e3relax.data.structures import find_faults, structures_to_crystals
from aiida_e3relax.workflows.freedom import Freedom
from aiida_e3relax.workflows.geometry import closest_contact
from aiida_e3relax.workflows.guard import GuardSettings

COINCIDENT_DISTANCE = 0.3  # A
RELAX_TAGS = {'isif': '`freedom`', 'nsw': '`vasp.relax_settings.steps`', 'ibrion': '`vasp.relax_settings.algo`'}


def validate_structure(structure: orm.StructureData, _: Any) -> str | None:
    """Check that the network can predict from `structure` and VASP relax it."""
    fault = (
        find_faults({'structure': structure}).get('structure')
        or _find_vasp_fault(structure)
        or _find_overlap(structure)
    )
    return f'`structure` cannot be relaxed: {fault}' if fault else None


def validate_freedom(freedom: orm.Str, _: Any) -> str | None:
    """Check that `freedom` is one of `Freedom`."""
    known = [choice.value for choice in Freedom]
    return None if freedom.value in known else f'`freedom`: expected {" or ".join(known)}, found {freedom.value!r}'


def validate_guard(settings: orm.Dict, _: Any) -> str | None:
    """Check that `settings` are fields of `GuardSettings` with values in their ranges."""
    try:
        GuardSettings.from_mapping(settings.get_dict())
    except (ValueError, TypeError) as error:
        return f'`guard`: {error}'
    return None


def validate_vasp(inputs: Mapping[str, Any], _: Any) -> str | None:
    """Check that there are k-points, and that no INCAR tag sets what `freedom` and `relax_settings` set."""
    vasp = inputs.get('vasp', {})
    for tag in vasp['parameters'].get_dict().get('incar', {}) if 'parameters' in vasp else ():
        if tag.lower() in RELAX_TAGS:
            return f'`vasp.vasp.parameters`: the INCAR tag {tag.upper()} is set by {RELAX_TAGS[tag.lower()]}; remove it'
    if not {'kpoints', 'kpoints_spacing'} & set(vasp):
        return '`vasp.vasp`: neither `kpoints` nor `kpoints_spacing` is given; give one'
    return None


def _find_vasp_fault(structure: orm.StructureData) -> str | None:
    if not all(structure.pbc):
        return f'its periodic directions are {structure.pbc}; VASP knows periodic crystals only, set `pbc` to True'
    for kind in structure.kinds:
        if kind.name != kind.symbol:
            return (
                f'its kind `{kind.name}` is not named `{kind.symbol}` as its element: aiida-vasp loses such names; '
                'make the structure anew with one kind an element, and give magnetic moments by the INCAR tag MAGMOM'
            )
    return None


def _find_overlap(structure: orm.StructureData) -> str | None:
    contact = closest_contact(structures_to_crystals({'structure': structure}))
    if contact and contact.distance < COINCIDENT_DISTANCE:
        return f'the sites {contact.atoms} are {contact.distance:.2f} A apart; remove one of them'
    return None
