"""The energy surface on which a relaxation goes down: the INCAR tags that decide on it, and their values alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from aiida_e3relax.common import fortran

SURFACE_TAGS = (
    'GGA',
    'GGA_COMPAT',
    'METAGGA',
    'XC',
    'LIBXC1',
    'LIBXC2',
    'LHFCALC',
    'HFSCREEN',
    'PRECFOCK',
    'NKRED',
    'NKREDX',
    'NKREDY',
    'NKREDZ',
    'AEXX',
    'AGGAX',
    'AGGAC',
    'ALDAC',
    'PARAM1',
    'PARAM2',
    'ZAB_VDW',
    'BPARAM',
    'CPARAM',
    'IVDW',
    'LUSE_VDW',
    'LASPH',
    'LSORBIT',
    'LNONCOLLINEAR',
    'NUPDOWN',
    'I_CONSTRAINED_M',
    'LDAUTYPE',
    'ML_LMLFF',
    'LSOL',
    'EB_K',
    'TAU',
    'LDIPOL',
    'IDIPOL',
    'EFIELD',
    'PSTRESS',
    'ENCUT',
    'PREC',
)
"""INCAR tags that decide on which energy surface a relaxation goes down, beside those that begin with `DISPERSION`.

U and potentials are told by element.
"""
ADDED = ('GGA_COMPAT', 'PRECFOCK', 'NKRED', 'NKREDX', 'NKREDY', 'NKREDZ', 'NUPDOWN', 'I_CONSTRAINED_M', 'ML_LMLFF')
"""Those of them that early nodes of pairs do not record."""
DISPERSION = 'VDW_'
"""Begins the names of the tags with the parameters of a dispersion correction."""
HUBBARD = ('LDAUTYPE', 'LDAUL', 'LDAUU', 'LDAUJ')
"""The tags of U and J, which VASP reads where LDAU is on."""
OTHER_TAGS = (
    'ISPIN',
    'MAGMOM',
    'SAXIS',
    'NELECT',
    'ISMEAR',
    'SIGMA',
    'EDIFF',
    'EDIFFG',
    'ENAUG',
    'LREAL',
    'ADDGRID',
    'LMAXMIX',
    'ISYM',
    'SYMPREC',
)
"""Tags that may differ on one surface, as they go by the crystal or are as fine as a person asks; they are told of.

Of MAGMOM it is the signs of the moments, whose number goes by the crystal. KSPACING and KGAMMA are none of them:
aiida-vasp always writes KPOINTS, beside which VASP ignores them.
"""
LOGICAL = (
    'LHFCALC',
    'LUSE_VDW',
    'LASPH',
    'LSORBIT',
    'LNONCOLLINEAR',
    'LSOL',
    'LDIPOL',
    'ADDGRID',
    'LREAL',
    'LDAU',
    'ML_LMLFF',
    'GGA_COMPAT',
)
"""The tags that are on or off."""
PRECISIONS = ('PREC', 'PRECFOCK')
"""The tags of whose words VASP reads the first letter."""
DEFAULTS: dict[str, Any] = dict.fromkeys(LOGICAL, False) | {
    'GGA_COMPAT': True,
    'PRECFOCK': 'N',
    **dict.fromkeys(('NKRED', 'NKREDX', 'NKREDY', 'NKREDZ'), 1),
    'ISPIN': 1,
    'NUPDOWN': -1,
    'I_CONSTRAINED_M': 0,
    'IVDW': 0,
    'LDAUTYPE': 2,
    'PREC': 'N',
}
"""What VASP takes where a tag is not set."""


def upper_tags(tags: Mapping[str, Any]) -> dict[str, Any]:
    """Return INCAR tags with names in capitals."""
    return {str(tag).upper(): value for tag, value in tags.items()}


def is_of_surface(tag: str) -> bool:
    """Return whether a tag, in capitals, is one of `SURFACE_TAGS` or begins with `DISPERSION`."""
    return tag in SURFACE_TAGS or tag.startswith(DISPERSION)


def chosen_tags(tags: Mapping[str, Any], is_chosen: Callable[[str], bool]) -> dict[str, Any]:
    """Return the chosen of `tags`, in capitals, with what VASP reads of their values: `PREC = Accurate` is `A`.

    What VASP takes by itself is as what is not set.
    """
    read = {tag: _as_read(tag, _plain(tag, value)) for tag, value in tags.items() if is_chosen(tag)}
    return {tag: read[tag] for tag in sorted(read, key=_place) if read[tag] != DEFAULTS.get(tag)}


def other_surface(first: Mapping[str, Any], last: Mapping[str, Any]) -> list[str]:
    """Return the tags, in capitals, by which energies with the INCAR tags `last` do not compare with those of `first`.

    Both are of one crystal and its potentials, so that its U, spin and number of electrons count, too.
    """
    before, after = _tags_of_scale(first), _tags_of_scale(last)
    return sorted({tag for tag in before.keys() | after.keys() if before.get(tag) != after.get(tag)}, key=_place)


def _tags_of_scale(tags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tags on which the energy of a crystal depends as `chosen_tags` does."""
    chosen = chosen_tags(upper_tags(tags), _is_of_scale)
    return {tag: value for tag, value in chosen.items() if 'LDAU' in chosen or tag not in HUBBARD}


def _is_of_scale(tag: str) -> bool:
    return is_of_surface(tag) or tag in ('LDAU', *HUBBARD, 'ISPIN', 'NELECT')


def _as_read(tag: str, value: Any) -> Any:
    """Return what VASP reads of a plain value: of PRECISIONS the first letter, where it is not SingleN."""
    if tag not in PRECISIONS:
        return value
    return 'SINGLEN' if str(value).startswith('SINGLEN') else str(value)[:1]


def _place(tag: str) -> tuple[int, str]:
    """Return by what tags are sorted for people."""
    known = (*SURFACE_TAGS, *OTHER_TAGS)
    return (known.index(tag) if tag in known else len(known), tag)


def _plain(tag: str, value: Any) -> Any:
    """Return a number, a logical, or words in capitals without spaces; of several words a text."""
    if isinstance(value, bool):
        return value
    if tag == 'MAGMOM':
        return _signs(value)
    words = value if isinstance(value, list | tuple) else str(value).upper().split()
    if len(words) != 1:
        return ' '.join(str(_plain('', word)) for word in words)
    word = str(words[0]).strip().upper()
    if tag in LOGICAL:
        with suppress(ValueError):  # LREAL may be a word
            return fortran.logical(word)
    try:
        number = fortran.real(word)
    except ValueError:
        return word
    return int(number) if number.is_integer() else number


def _signs(moments: Any) -> str:
    """Return in words which signs the moments have that a relaxation starts with; what cannot be read as it is."""
    words = [str(word) for word in moments] if isinstance(moments, list | tuple) else str(moments).split()
    try:
        values = [fortran.repetition(word)[1] for word in words]
    except ValueError:
        return ' '.join(words)
    found = {value > 0 for value in values if value}
    return ('all 0', 'of one sign', 'of both signs')[len(found)]
