"""VASP runs without vasprun.xml: POSCAR and CONTCAR, checked by the OUTCAR, OSZICAR and INCAR beside them."""

from __future__ import annotations

import re
from pathlib import Path

from aiida_e3relax.crystals.files.content import open_text_file
from aiida_e3relax.gnn.data.sources.base import (
    Loaded,
    UnusableError,
    only_crystal,
    plain_name,
    same,
    sites_of,
    with_isif,
)

NAME = re.compile(
    r'(?P<kind>POSCAR|CONTCAR|OUTCAR|OSZICAR|INCAR)(?:[._-]?(?:relax|run|opt|cont|part)?[._-]?(?P<part>\d+))?',
    re.IGNORECASE,
)
"""Names of files of a run, or of a part of one that goes on, before they were compressed."""

UNTOUCHED, GOES_ON = 1e-6, 1e-3
"""In A: a CONTCAR this close to its POSCAR is a copy of it; one this close to the next part's POSCAR goes on there."""

NOT_KNOWN = 'POSCAR and CONTCAR alone: nothing says whether the relaxation converged'

_CONSTRAINTS = re.compile(r'(?:^|;)\s*(LATTICE_CONSTRAINTS)\s*=([^;#!]+)', re.IGNORECASE)
_TAG = re.compile(r'(?:^|;)\s*(IBRION|NSW|IMAGES|ML_LMLFF|EDIFFG|ISIF)\s*=\s*([^\s;#!]+)', re.IGNORECASE)
_REACHED = 'reached required accuracy - stopping structural energy minimisation'


def load_poscars(folder: Path, names: list[str]) -> Loaded:
    """Return the first POSCAR and the last CONTCAR of the files in `folder`.

    Raises UnusableError for what is no relaxation, did not converge, was never touched, or does not go on where the
    part before it ended.
    """
    parts: dict[str, dict[int | None, Path]] = {}
    for name in names:  # sorted: an uncompressed file comes before its compressed copies
        match = NAME.fullmatch(plain_name(name))
        if match:
            number = None if match['part'] is None else int(match['part'])
            parts.setdefault(match['kind'].upper(), {}).setdefault(number, folder / name)
    order = sorted(parts['POSCAR'], key=lambda number: (number is None, number or 0))
    if parts['POSCAR'].keys() != parts['CONTCAR'].keys():
        raise UnusableError('parts do not fit: not every POSCAR has its CONTCAR')
    last = order[-1]
    beside = {kind: files[last] for kind, files in parts.items() if last in files}
    tags = _tags(beside.get('INCAR') or parts.get('INCAR', {}).get(None))
    if re.fullmatch(r'\d\d', folder.name):  # of a nudged elastic band, which is described one folder up
        tags = {'IMAGES': _tags(folder.parent / 'INCAR').get('IMAGES', '0'), **tags}
    _check_tags(tags)
    known = 'OUTCAR' in beside
    if known:
        tags |= _check_outcar(beside['OUTCAR'])
    elif 'OSZICAR' in beside:
        _check_steps(beside['OSZICAR'], tags)
    starts, ends = ([sites_of(only_crystal(parts[kind][number])) for number in order] for kind in ('POSCAR', 'CONTCAR'))
    for index, (end, start) in enumerate(zip(ends, starts[1:], strict=False)):
        if not same(end, start, GOES_ON):
            raise UnusableError(f'parts do not fit: part {index + 2} does not start where the one before ended')
    if same(starts[0], ends[-1], UNTOUCHED):
        raise UnusableError('nothing was relaxed: CONTCAR is POSCAR')
    start = starts[0]
    if tags.keys() - {'IMAGES'}:  # what the run did is known, and the default of ISIF is 2
        start = with_isif(start, tags.get('ISIF', '2'), tags.get('LATTICE_CONSTRAINTS'))
    return Loaded(start, ends[-1], '' if known else NOT_KNOWN)


def _tags(path: Path | None) -> dict[str, str]:
    """Return those tags of an INCAR that say what a run is."""
    if path is None or not path.is_file():
        return {}
    with open_text_file(path) as handle:
        tags = [found for line in handle for found in (*_TAG.findall(line), *_CONSTRAINTS.findall(line))]
    return {name.upper(): value for name, value in tags}


def _check_tags(tags: dict[str, str]) -> None:
    """Raise UnusableError where an INCAR, or an OUTCAR, describes no relaxation by DFT."""
    if tags.get('ML_LMLFF', 'F').strip('.').upper().startswith('T'):
        raise UnusableError('no relaxation by DFT: ML_LMLFF, the steps are those of a machine-learned force field')
    if tags.get('IMAGES', '0') != '0':
        raise UnusableError('no relaxation: IMAGES, one image of a nudged elastic band')
    if tags.get('IBRION', '2') not in ('1', '2', '3'):
        raise UnusableError(f'no relaxation: IBRION = {tags["IBRION"]}')
    if tags.get('NSW', '1') in ('0', '-1'):
        raise UnusableError(f'no relaxation: NSW = {tags["NSW"]}, no ions move')


def _check_outcar(path: Path) -> dict[str, str]:
    """Return the tags of an OUTCAR; raises UnusableError where it does not say that it reached its accuracy."""
    tags: dict[str, str] = {}
    reached, electrons = False, True
    with open_text_file(path) as handle:
        for line in handle:
            if _REACHED in line:
                reached = True
            elif 'aborting loop' in line:
                electrons = 'unconverged' not in line
            elif ' = ' in line and (match := re.match(r'\s+(IBRION|NSW|IMAGES|ML_LMLFF|ISIF)\s*=\s*(\S+)', line)):
                tags.setdefault(match[1], match[2])
    _check_tags(tags)
    if not reached:
        raise UnusableError(f'did not converge: {path.name} does not say that it reached the required accuracy')
    if not electrons:
        raise UnusableError(f'electrons did not converge in the last step, says {path.name}')
    return tags


def _check_steps(path: Path, tags: dict[str, str]) -> None:
    """Raise UnusableError where an OSZICAR has all the steps that INCAR allows."""
    with open_text_file(path) as handle:
        steps = [int(match[1]) for line in handle if (match := re.match(r'\s*(\d+) F=', line))]
    if tags.get('NSW', '').isdecimal() and steps and max(steps) >= int(tags['NSW']):
        raise UnusableError(f'did not converge: {max(steps)} ionic steps, which is NSW')
