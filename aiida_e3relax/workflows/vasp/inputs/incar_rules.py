"""The rules on INCAR tags: which a chain refuses, and why. A new rule is a function or a line here.

Each function returns what is wrong, or None, and raises ValueError for a value that cannot be read.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from typing import Any

from aiida import orm

from aiida_e3relax.crystals.freedom.freedom import Freedom
from aiida_e3relax.workflows.vasp.inputs.incar import count_numbers, incar_tags, read_logical, read_number
from aiida_e3relax.workflows.vasp.inputs.species import list_species, translate_species

SET_BY_OTHER_INPUTS = {
    'isif': '`freedom`',
    'nsw': '`vasp.relax_settings.steps`',
    'ibrion': '`vasp.relax_settings.algo`',
}
"""Tags that are refused, and the input that sets each."""
HUBBARD_TAGS = ('ldaul', 'ldauu', 'ldauj')
"""Tags with a number for each species of POSCAR."""


def find_tag_fault(parameters: Mapping[str, Any], has_moments: bool) -> str | None:
    """Return which tag in the input `parameters` of aiida-vasp is refused for every structure.

    `has_moments` says whether the input `magmom_mapping` is given, too.
    """
    tags = incar_tags(parameters)
    return find_value_fault(parameters) or _find_refused_tag(tags) or _find_moments_fault(tags, has_moments)


def find_tag_mismatch(
    tags: Mapping[str, Any], structure: orm.StructureData, freedom: Freedom, mappings: Mapping[str, Mapping[str, Any]]
) -> str | None:
    """Return which tag contradicts `freedom`, or has another number of entries than VASP looks for in `structure`.

    `mappings` are those of `species_mappings`. Raises ValueError as `translate_species` does, too.
    """
    return _find_isym_fault(tags, freedom) or _find_count_fault(tags, structure, mappings)


def find_value_fault(parameters: Mapping[str, Any]) -> str | None:
    """Return which tag cannot be written into one line of INCAR as it is given, or None."""
    tags = incar_tags(parameters)
    names = [str(tag).lower() for tag in parameters.get('incar', {})]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        return f'the INCAR tag {repeated.upper()} is given twice, in capitals and in small letters; remove one of them'
    for tag, value in tags.items():
        for word in value if isinstance(value, list | tuple) and value else [value]:
            fault = None
            if not isinstance(word, str | bool | int | float):
                fault = 'a number, a logical, a text, or one list of these'
            elif isinstance(word, float) and not math.isfinite(word):
                fault = 'a finite number'
            elif isinstance(word, str) and any(mark in word for mark in ';\n\r'):
                fault = 'one value, without a semicolon or a line break'
            if fault:
                return f'the INCAR tag {tag.upper()} must be {fault}, found {reprlib.repr(value)}; correct or remove it'
    return None


def _find_refused_tag(tags: Mapping[str, Any]) -> str | None:
    for tag, owner in SET_BY_OTHER_INPUTS.items():
        if tag in tags:
            return f'the INCAR tag {tag.upper()} is set by {owner}; remove it'
    if 'lattice_constraints' in tags:
        return (
            'the INCAR tag LATTICE_CONSTRAINTS would hold for VASP and not for the prediction; remove it, and give '
            '`freedom: in-plane` to keep the vacuum of a layer, or `freedom: positions` to keep the whole cell'
        )
    if read_number(tags, 'pstress', 0.0):
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
    if read_number(tags, 'ispin', 1) != 2 and not _is_noncollinear(tags):
        return 'VASP reads the INCAR tag MAGMOM in computations with spin only; add ISPIN = 2'
    return None


def _find_isym_fault(tags: Mapping[str, Any], freedom: Freedom) -> str | None:
    if freedom.keep_symmetry and read_number(tags, 'isym', 2) <= 0:
        return 'with the INCAR tag ISYM = 0 or -1 VASP does not keep the symmetry as `freedom` asks; remove one of them'
    return None


def _find_count_fault(
    tags: Mapping[str, Any], structure: orm.StructureData, mappings: Mapping[str, Mapping[str, Any]]
) -> str | None:
    given: dict[str, Any] = {'potential_mapping': {}, **mappings}
    translate_species(structure, **given)
    species = list_species(structure)
    for tag in HUBBARD_TAGS:
        if tag in tags and 'ldau_mapping' in given:
            return (
                f'aiida-vasp would replace the INCAR tag {tag.upper()} by what `ldau_mapping` says; remove one of them'
            )
        if tag in tags and (count := count_numbers(tags, tag)) != len(species):
            return (
                f'the INCAR tag {tag.upper()} has {count} entries, and POSCAR {len(species)} species '
                f'({" ".join(species)}); give one each, or `ldau_mapping` by kind or element instead'
            )
    per_site = 3 if _is_noncollinear(tags) else 1
    if 'magmom' in tags and (count := count_numbers(tags, 'magmom')) != per_site * len(structure.sites):
        return (
            f'the INCAR tag MAGMOM has {count} entries, expected {per_site * len(structure.sites)}, '
            f'{per_site} for each site in the order of the structure; correct it, or give `magmom_mapping` instead'
        )
    return None


def _is_noncollinear(tags: Mapping[str, Any]) -> bool:
    return read_logical(tags, 'lnoncollinear') or read_logical(tags, 'lsorbit')
