"""The rules on INCAR tags: which a chain refuses, and why. A new rule is a function or a line here.

Each function returns what is wrong, or None, and raises ValueError for a value that cannot be read.
"""

from __future__ import annotations

import functools
import importlib.resources
import math
import numbers
import reprlib
from collections.abc import Collection, Mapping
from typing import Any

import yaml
from aiida import orm

from aiida_e3relax.common.mappings import check_keys
from aiida_e3relax.crystals.freedom.freedom import Freedom
from aiida_e3relax.workflows.vasp.inputs.incar import (
    STATIC_TAGS,
    count_numbers,
    incar_tags,
    is_noncollinear,
    read_logical,
    read_number,
)
from aiida_e3relax.workflows.vasp.inputs.mapping_rules import check_mappings
from aiida_e3relax.workflows.vasp.inputs.species import list_species, tags_beside, translate_species

FIXED_SITES_ELSEWHERE = (
    'selective dynamics, which would hold for VASP and not for the prediction; give the sites to be held as `fixed` in '
    "`freedom` instead, such as `{moves: positions, fixed: {'abc': [0, 1]}}`"
)
NO_TAGS = {
    'relax': '`relax` would be replaced by `vasp.relax_settings`; remove it, and give that instead',
    'dynamics': f'`dynamics` asks for {FIXED_SITES_ELSEWHERE}',
}
"""Groups of aiida-vasp's `parameters` that stand for no INCAR tags, and what to give instead."""
SET_BY_OTHER_INPUTS = {
    'isif': '`freedom`',
    'nsw': '`vasp.relax_settings.steps`',
    'ibrion': '`vasp.relax_settings.algo`',
}
"""Tags that are refused in a relaxation, and the input that sets each."""
OF_STATIC_RUN = {**STATIC_TAGS, 'isif': 2}
"""The only values that the same tags may have in a static run: those that it has without them."""
HUBBARD_TAGS = ('ldaul', 'ldauu', 'ldauj')
"""Tags with a number for each species of POSCAR."""
HUBBARD_TYPE = 2
"""LDAUTYPE where a mapping of corrections does not say it."""
F_ELECTRONS = 6
"""LMAXMIX for the density matrix of f electrons."""
RESTART_FOLDER = 'restart_folder'
"""The input with all the files of an earlier run."""
READS_DENSITY = {1: 'charge_density', 11: 'charge_density', 4: RESTART_FOLDER}
"""Values of ICHARG by which VASP reads a charge density or potential, and the input with it.

ISTART needs no such rule: where there are no wave functions VASP takes it for 0.
"""


def find_namespace_fault(parameters: Mapping[str, Any]) -> str | None:
    """Return what stands beside `incar` in the input `parameters` of aiida-vasp, or None.

    What its other groups say, such as `electronic`, is lost where `incar` says it as well.
    """
    group = next(
        (group for group, content in parameters.items() if group != 'incar' and content not in ({}, None)), None
    )
    if group is None or group in NO_TAGS:
        return group and NO_TAGS[group]
    return (
        f'expected INCAR tags in `incar` alone, found `{group}`, {reprlib.repr(parameters[group])}; give the tags '
        'themselves, such as `incar: {encut: 520}`'
    )


def find_tag_fault(parameters: Mapping[str, Any], given: Collection[str]) -> str | None:
    """Return which tag in the input `parameters` of aiida-vasp is refused for every structure.

    `given` are the names of the other inputs of `vasp.v2.vasp` that are given.
    """
    tags = incar_tags(parameters)
    return (
        _find_fault_of_any_run(parameters, given)
        or _find_tag_set_elsewhere(tags)
        or _find_moments_fault(tags, 'magmom_mapping' in given)
        or _find_hubbard_fault(tags)
    )


def find_static_fault(parameters: Mapping[str, Any], given: Collection[str]) -> str | None:
    """Return what of the tags of the static run is refused for every structure; `given` is as in `find_tag_fault`."""
    return (
        find_namespace_fault(parameters)
        or _find_fault_of_any_run(parameters, given)
        or _find_moving_tag(incar_tags(parameters))
    )


def _find_fault_of_any_run(parameters: Mapping[str, Any], given: Collection[str]) -> str | None:
    """Return which tag is refused in relaxations and static runs alike; `given` is as in `find_tag_fault`."""
    tags = incar_tags(parameters)
    return (
        find_value_fault(parameters)
        or _find_refused_tag(tags)
        or _find_kpoints_fault(tags)
        or _find_files_fault(tags, given)
    )


def find_tag_mismatch(
    tags: Mapping[str, Any], structure: orm.StructureData, freedom: Freedom, mappings: Mapping[str, Any]
) -> str | None:
    """Return which tag contradicts `freedom` or a mapping, or has another number of entries than `structure` asks for.

    `mappings` are those of `species_mappings`. Raises ValueError as `check_mappings` and `translate_species` do, too.
    """
    check_mappings(structure, mappings)
    made = translate_species(structure, **mappings).tags
    settings = mappings.get('ldau_mapping')
    return (
        _find_isym_fault(tags, freedom)
        or (None if settings is None else _find_mapping_fault(tags, settings, made))
        or _find_count_fault(tags, structure)
    )


def find_static_mismatch(
    tags: Mapping[str, Any], own: Mapping[str, Any], structure: orm.StructureData, mappings: Mapping[str, Any]
) -> str | None:
    """Return which tag VASP would not read in the static run, or with another number of entries than it looks for.

    `tags` and `mappings` are those of the relaxation, `own` the tags of the static run, which go over both.
    """
    made = tags_beside(tags, translate_species(structure, **mappings))
    written = {**tags, **made, **own}
    return (
        ('magmom' in own and _find_moments_fault(written, has_mapping=False))
        or _find_hubbard_fault(written)
        or _find_count_fault(written, structure)
    )


def find_value_fault(parameters: Mapping[str, Any]) -> str | None:
    """Return which tag cannot be written into one line of INCAR as it is given, or None."""
    tags = incar_tags(parameters)
    names = [str(tag).lower() for tag in parameters.get('incar', {})]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        return f'the INCAR tag {repeated.upper()} is given twice, in capitals and in small letters; remove one of them'
    for tag, value in tags.items():
        for word in value if isinstance(value, list | tuple) and value else [value]:
            fault = None
            if not isinstance(word, str | numbers.Real):
                fault = 'a number, a logical, a text, or one list of these'
            elif isinstance(word, numbers.Real) and not math.isfinite(word):
                fault = 'a finite number'
            elif isinstance(word, str) and any(mark in word for mark in ';\n\r'):
                fault = 'one value, without a semicolon or a line break'
            if fault:
                return f'the INCAR tag {tag.upper()} must be {fault}, found {reprlib.repr(value)}; correct or remove it'
    return None


def check_tag_names(parameters: Mapping[str, Any]) -> None:
    """Raise ValueError for an INCAR tag that aiida-vasp does not know, with the nearest one that it does."""
    try:
        check_keys(incar_tags(parameters), _known_tags())
    except ValueError as error:
        raise ValueError(f'INCAR: {error}') from error


@functools.cache
def _known_tags() -> list[str]:
    listed = (importlib.resources.files('aiida_vasp.assistant') / 'parameters.yml').read_text(encoding='utf-8')
    return list(yaml.safe_load(listed))


def _find_tag_set_elsewhere(tags: Mapping[str, Any]) -> str | None:
    tag = next((tag for tag in SET_BY_OTHER_INPUTS if tag in tags), None)
    return tag and f'the INCAR tag {tag.upper()} is set by {SET_BY_OTHER_INPUTS[tag]}; remove it'


def _find_moving_tag(tags: Mapping[str, Any]) -> str | None:
    """Return which tag would move something in a static run."""
    for tag, only in OF_STATIC_RUN.items():
        if (found := read_number(tags, tag, only)) != only:
            return (
                f'expected the INCAR tag {tag.upper()} = {only}, as nothing moves in the static run, found {found:g}; '
                'remove it'
            )
    return None


def _find_refused_tag(tags: Mapping[str, Any]) -> str | None:
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


def _find_kpoints_fault(tags: Mapping[str, Any]) -> str | None:
    """Return which tag would have no effect, as VASP looks for it only where there is no file KPOINTS."""
    if 'kspacing' in tags:
        spacing = read_number(tags, 'kspacing', 0.5) / (2 * math.pi)
        return (
            'the INCAR tag KSPACING has no effect beside KPOINTS, which is always written; remove it, and give its '
            f'value over 2 pi instead, `vasp.vasp.kpoints_spacing: {spacing:.3g}`, in 2 pi/A'
        )
    if 'kgamma' in tags:
        return (
            'the INCAR tag KGAMMA has no effect beside KPOINTS, which is always written; remove it, and for a mesh off '
            'the Gamma point give `vasp.vasp.kpoints: {mesh: [4, 4, 4], offset: [0.5, 0.5, 0.5]}`'
        )
    return None


def _find_files_fault(tags: Mapping[str, Any], given: Collection[str]) -> str | None:
    """Return which tag lets VASP read a file that is not there."""
    value = read_number(tags, 'icharg', 0)
    port = READS_DENSITY.get(int(value))
    if port is None or {port, RESTART_FOLDER} & set(given):
        return None
    return (
        f'the INCAR tag ICHARG = {value:g} reads a charge density or potential, and there is none; remove it, or give '
        f'`vasp.vasp.{port}`'
    )


def _find_moments_fault(tags: Mapping[str, Any], has_mapping: bool) -> str | None:
    if 'magmom' not in tags:
        return None
    if has_mapping:
        return 'aiida-vasp would replace the INCAR tag MAGMOM by what `magmom_mapping` says; remove one of them'
    if read_number(tags, 'ispin', 1) != 2 and not is_noncollinear(tags):
        return 'VASP reads the INCAR tag MAGMOM in computations with spin only; add ISPIN = 2'
    return None


def _find_hubbard_fault(tags: Mapping[str, Any]) -> str | None:
    tag = next((tag for tag in HUBBARD_TAGS if tag in tags), None)
    if tag and 'ldau' not in tags:
        return (
            f'VASP reads the INCAR tag {tag.upper()} in computations with Hubbard corrections only; add LDAU = .TRUE.'
        )
    return None


def _find_isym_fault(tags: Mapping[str, Any], freedom: Freedom) -> str | None:
    if freedom.keep_symmetry and read_number(tags, 'isym', 2) <= 0:
        return 'with the INCAR tag ISYM = 0 or -1 VASP does not keep the symmetry as `freedom` asks; remove one of them'
    return None


def _find_mapping_fault(tags: Mapping[str, Any], settings: Mapping[str, Any], made: Mapping[str, Any]) -> str | None:
    """Return which tag says something else than the `settings` of `ldau_mapping` and the tags that are `made` of it."""
    if tag := next((tag for tag in HUBBARD_TAGS if tag in tags), None):
        return f'aiida-vasp would replace the INCAR tag {tag.upper()} by what `ldau_mapping` says; remove one of them'
    if 'ldau' in tags and read_logical(tags, 'ldau') != ('ldau' in made):
        if 'ldau' in made:
            return 'the INCAR tag LDAU = .FALSE. contradicts `ldau_mapping`, which has corrections; remove one of them'
        return (
            'the INCAR tag LDAU = .TRUE. stands beside an `ldau_mapping` with no correction for this structure, and '
            'VASP would choose U itself; remove the tag, which the mapping sets where it is needed'
        )
    utype = settings.get('utype', HUBBARD_TYPE)
    if (found := read_number(tags, 'ldautype', utype)) != utype:
        return (
            f'the INCAR tag LDAUTYPE = {found:g} contradicts `ldau_mapping`, whose `utype` is {utype}; remove the tag, '
            'and give `utype` in `ldau_mapping`'
        )
    if settings.get('felec') and (found := read_number(tags, 'lmaxmix', F_ELECTRONS)) < F_ELECTRONS:
        return (
            f'the INCAR tag LMAXMIX = {found:g} contradicts `felec` of `ldau_mapping`, which stands for {F_ELECTRONS}; '
            f'remove `felec`, or give {F_ELECTRONS}'
        )
    return None


def _find_count_fault(tags: Mapping[str, Any], structure: orm.StructureData) -> str | None:
    species = list_species(structure)
    for tag in HUBBARD_TAGS:
        if tag in tags and (count := count_numbers(tags, tag)) != len(species):
            return (
                f'the INCAR tag {tag.upper()} has {count} entries, and POSCAR {len(species)} species '
                f'({" ".join(species)}); give one each, or `ldau_mapping` by kind or element instead'
            )
    per_site = 3 if is_noncollinear(tags) else 1
    if 'magmom' in tags and (count := count_numbers(tags, 'magmom')) != per_site * len(structure.sites):
        return (
            f'the INCAR tag MAGMOM has {count} entries, expected {per_site * len(structure.sites)}, '
            f'{per_site} for each site in the order of the structure; correct it, or give `magmom_mapping` instead'
        )
    return None
