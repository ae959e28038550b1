"""Checks of the chain's inputs, before anything runs. Each returns what is wrong, or None."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from aiida import orm

from aiida_e3relax.data.structures import find_faults, structures_to_crystals
from aiida_e3relax.workflows.freedom import Freedom
from aiida_e3relax.workflows.geometry import closest_contact
from aiida_e3relax.workflows.guard import GuardSettings

COINCIDENT_DISTANCE = 0.3  # A
RELAX_TAGS = {'isif': '`freedom`', 'nsw': '`vasp.relax_settings.steps`', 'ibrion': '`vasp.relax_settings.algo`'}
FREEDOM_FLAGS = ('positions', 'shape', 'volume')
NO_FIXED_SITES = (
    'selective dynamics: the prediction would move the fixed sites; remove it, or relax with `vasp.v2.relax` of '
    'aiida-vasp, without a prediction'
)


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
    """Check that there are k-points, and that nothing is set twice or left out of account by the prediction."""
    vasp = inputs.get('vasp', {})
    if not {'kpoints', 'kpoints_spacing'} & set(vasp):
        return '`vasp.vasp`: neither `kpoints` nor `kpoints_spacing` is given; give one'
    if 'dynamics' in vasp:
        return f'`vasp.vasp.dynamics`: {NO_FIXED_SITES}'
    if 'relax_settings' in inputs:
        settings = inputs['relax_settings'].get_dict()
        for flag in FREEDOM_FLAGS:
            if not settings.get(flag, True):
                return f'`vasp.relax_settings`: `{flag}` is set by `freedom`; remove it, and give `freedom` instead'
    if 'parameters' in vasp:
        parameters = vasp['parameters'].get_dict()
        if parameters.get('dynamics'):
            return f'`vasp.vasp.parameters`: `dynamics` asks for {NO_FIXED_SITES}'
        tags = incar_tags(parameters)
        fault = _find_tag_fault(tags) or _find_moments_fault(tags, 'magmom_mapping' in vasp)
        return f'`vasp.vasp.parameters`: {fault}' if fault else None
    return None


def incar_tags(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the INCAR tags in the input `parameters` of aiida-vasp, with lower-case names."""
    return {tag.lower(): value for tag, value in parameters.get('incar', {}).items()}


def _find_tag_fault(tags: Mapping[str, Any]) -> str | None:
    for tag, owner in RELAX_TAGS.items():
        if tag in tags:
            return f'the INCAR tag {tag.upper()} is set by {owner}; remove it'
    if 'lattice_constraints' in tags:
        return (
            'the INCAR tag LATTICE_CONSTRAINTS would hold for VASP and not for the prediction; remove it, and give '
            '`freedom: positions` to keep the whole cell'
        )
    if tags.get('pstress'):
        return (
            'the INCAR tag PSTRESS asks for a pressure that the prediction knows nothing of; remove it, and relax the '
            'result under pressure with `vasp.v2.relax` of aiida-vasp'
        )
    return None


def _find_moments_fault(tags: Mapping[str, Any], has_mapping: bool) -> str | None:
    if 'magmom' not in tags:
        return None
    if has_mapping:
        return 'aiida-vasp would replace the INCAR tag MAGMOM by what `magmom_mapping` says; remove one of them'
    if str(tags.get('ispin')) != '2' and not tags.get('lnoncollinear') and not tags.get('lsorbit'):
        return 'VASP reads the INCAR tag MAGMOM in computations with spin only; add ISPIN = 2'
    return None


def _find_vasp_fault(structure: orm.StructureData) -> str | None:
    if not all(structure.pbc):
        return f'its periodic directions are {structure.pbc}; VASP knows periodic crystals only, set `pbc` to True'
    for kind in structure.kinds:
        if kind.name != kind.symbol:
            return (
                f'its kind `{kind.name}` is not named `{kind.symbol}` as its element: aiida-vasp loses such names; '
                'make the structure anew with one kind an element, and give magnetic moments by the INCAR tags ISPIN '
                'and MAGMOM'
            )
    if np.linalg.det(structure.cell) < 0:
        return 'its lattice vectors are left-handed, which VASP does not take; exchange two lattice vectors'
    return None


def _find_overlap(structure: orm.StructureData) -> str | None:
    contact = closest_contact(structures_to_crystals({'structure': structure}))
    if contact and contact.distance < COINCIDENT_DISTANCE:
        return f'the sites {contact.atoms} are {contact.distance:.2f} A apart; remove one of them'
    return None
