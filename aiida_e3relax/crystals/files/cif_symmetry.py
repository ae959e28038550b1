"""The symmetry operations of a CIF's data block: those listed there, or those of the group and setting it names."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.common.messages import short
from aiida_e3relax.crystals.files.errors import CrystalFileError

if TYPE_CHECKING:
    from aiida_e3relax.crystals.files.cif import _Values as Values

METRIC = 0.02
"""How far, relative to the largest, lengths and angles of the cell may be from what an operation asks for."""

_LISTED = ('space_group_symop_operation_xyz', 'symmetry_equiv_pos_as_xyz', 'space_group_symop_magn_operation_xyz')
_NAMES = ('space_group_name_h-m_alt', 'symmetry_space_group_name_h-m', 'space_group_name_h-m_full')
_HALL = ('space_group_name_hall', 'symmetry_space_group_name_hall')
_NUMBERS = ('space_group_it_number', 'symmetry_int_tables_number')
_ICSD = {'s': ':1', 'z': ':2', 'r': ':R', 'h': ':H'}
"""Endings of names in the ICSD for the choice of origin and of axes."""


@dataclasses.dataclass(frozen=True)
class Operations:
    """Symmetry operations ``x' = R x + t`` on fractional coordinates.

    Attributes
    ----------
    rotations, translations
        ``(M, 3, 3)`` and ``(M, 3)``.
    source
        Where they come from, for messages.
    """

    rotations: NDArray[np.float64]
    translations: NDArray[np.float64]
    source: str

    def images(self, site: NDArray[np.float64], cell: NDArray[np.float64], coincident: float) -> NDArray[np.float64]:
        """Return the places ``(K, 3)`` of a site in the cell; those within `coincident` (A) are one, in their midst."""
        places = self.rotations @ site + self.translations
        found: list[NDArray[np.float64]] = []
        while len(places):
            difference = places - places[0]
            difference -= np.round(difference)
            near = np.linalg.norm(difference @ cell, axis=1) < coincident
            found.append(places[0] + difference[near].mean(axis=0))
            places = places[~near]
        if len(self.rotations) % len(found):
            raise CrystalFileError(
                f'a site at {short(site)} has {len(found)} images by {len(self.rotations)} operations, which no '
                'group has: give its coordinates with more digits'
            )
        wrapped = np.mod(found, 1.0)
        return np.where(wrapped < 1.0, wrapped, 0.0)


def read_operations(values: Values, cell: NDArray[np.float64]) -> Operations:
    """Return the operations of a data block, at least the identity.

    Raises CrystalFileError where they are no group, do not belong to the cell `cell` ``(3, 3)``, contradict the number
    of the group, or where the block names a group of which the setting is not known.
    """
    import gemmi

    number = values.number(next((name for name in _NUMBERS if values.value(name)), _NUMBERS[0]))
    if number is not None and number not in range(1, 231):
        raise CrystalFileError(f'expected a number of a space group from 1 to 230, found {number:g}')
    if listed := values.column(*_LISTED):
        group, source = _listed(listed, values), 'the listed operations'
        known = gemmi.find_spacegroup_by_ops(group)
    else:
        known = _named(values, None if number is None else int(number), cell)
        group, source = known.operations(), f'the space group {known.xhm()}'
    if number is not None and known is not None and known.number != number:
        raise CrystalFileError(f'{source} are of the group {known.number}, but the file names {number:g}: one is wrong')
    triplets = list(group)
    rotations = np.array([op.rot for op in triplets], dtype=np.float64) / gemmi.Op.DEN
    translations = np.array([op.tran for op in triplets], dtype=np.float64) / gemmi.Op.DEN
    operations = Operations(rotations, translations, source)
    _check_metric(operations, cell)
    return operations


def _listed(listed: list[str], values: Values) -> Any:
    """Return the group of the listed operations; raises CrystalFileError where they are none."""
    import gemmi

    centerings = values.column('space_group_symop_magn_centering_xyz')
    try:
        operations = [_parse(text) for text in listed]
        shifts = [_parse(text) for text in centerings]
    except (RuntimeError, ValueError) as error:
        raise CrystalFileError(f'a symmetry operation is not such as `-x,y+1/2,z`: {short(error)}') from error
    operations = [(a * b).wrap() for a in (shifts or [gemmi.Op('x,y,z')]) for b in operations]
    if any(abs(round(np.linalg.det(np.array(op.rot) / gemmi.Op.DEN), 6)) != 1 for op in operations):
        raise CrystalFileError('a symmetry operation is none of a crystal: it changes the volume')
    found = {op.triplet() for op in operations}
    group = gemmi.GroupOps(operations)
    try:
        group.add_missing_elements()
    except RuntimeError:  # there is no end of them
        group = gemmi.GroupOps([])
    if {op.wrap().triplet() for op in group} != found:
        raise CrystalFileError(f'the {len(found)} listed symmetry operations are no group: some are missing or wrong')
    return group


def _parse(text: str) -> Any:
    """Return an operation; the time reversal of a magnetic one is left out."""
    import gemmi

    return gemmi.Op(','.join(text.split(',')[:3]))


def _named(values: Values, number: int | None, cell: NDArray[np.float64]) -> Any:
    """Return the group and setting that a data block names; P 1 where it names none."""
    import gemmi

    hall, name = values.value(*_HALL), values.value(*_NAMES)
    if hall is not None:
        try:
            group = gemmi.find_spacegroup_by_ops(gemmi.symops_from_hall(hall))
        except RuntimeError:
            group = None
        if group is not None:
            return group
    if name is None and number is None:
        return gemmi.find_spacegroup_by_number(1)
    setting = values.value('symmetry_space_group_setting', 'space_group_setting')
    group, stated = _find(name, number, setting, cell)
    advice = 'list its symmetry operations (_space_group_symop_operation_xyz) in the file'
    if group is None:
        raise CrystalFileError(
            f'the space group {short(name)!r} is not known, and its operations are not in the file: {advice}'
        )
    if group.ext in {'1', '2'} and not stated:
        raise CrystalFileError(
            f'the space group {group.hm} has two choices of origin and the file does not say which: write :1 or :2 '
            f'behind the name, or {advice}'
        )
    return group


def _find(name: str | None, number: int | None, setting: str | None, cell: NDArray[np.float64]) -> tuple[Any, bool]:
    """Return the group and setting, or None, and whether the choice of origin is stated."""
    import gemmi
    from ase.geometry.cell import cell_to_cellpar

    _, _, _, alpha, _, gamma = cell_to_cellpar(cell)
    if name is None and number is not None:
        group = gemmi.find_spacegroup_by_number(number)
        name = group.hm
    name = (name or '').replace('_', ' ').strip()
    match = re.fullmatch(r'(.*?)\s*:\s*([12hrHR])|(.*\S)\s+([szrhSZRH])', name)
    ending = ''
    if match:
        name = match[1] or match[3]
        ending = f':{match[2].upper()}' if match[2] else _ICSD[match[4].lower()]
    elif setting in {'1', '2'}:
        ending = f':{setting}'
    group = gemmi.find_spacegroup_by_name(name, alpha, gamma)
    if group is not None and ending and group.ext in {'1', '2', 'H', 'R'}:
        if group.ext in {'H', 'R'} and ending in {':1', ':2'}:
            ending = {':1': ':H', ':2': ':R'}[ending]
        group = gemmi.find_spacegroup_by_name(f'{group.hm}{ending}')
    return group, bool(ending)


def _check_metric(operations: Operations, cell: NDArray[np.float64]) -> None:
    """Raise CrystalFileError where an operation maps the lattice of `cell` onto another."""
    metric = cell @ cell.T
    mapped = np.einsum('mji,jk,mkl->mil', operations.rotations, metric, operations.rotations)
    scale = np.sqrt(np.einsum('i,j->ij', np.diag(metric), np.diag(metric)))
    if (np.abs(mapped - metric) > METRIC * scale.max()).any():
        raise CrystalFileError(
            f'{operations.source} do not belong to the cell that the file gives, as they map its lattice onto another: '
            'the setting, or the cell, is another one'
        )
