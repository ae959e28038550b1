"""`StructureData` nodes to flat arrays and back, and the faults that make a structure unfit for this."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from aiida import orm
from aiida.common.constants import elements
from numpy.typing import NDArray

from aiida_e3relax.crystals.structures import Crystals, make_crystals
from aiida_e3relax.crystals.validation import input_faults

ATOMIC_NUMBERS = {data['symbol']: number for number, data in elements.items()}
NO_ELEMENT = ATOMIC_NUMBERS['X']
SYMBOLS = {number: symbol for symbol, number in ATOMIC_NUMBERS.items()}
ELEMENTS = sorted(set(ATOMIC_NUMBERS.values()) - {NO_ELEMENT})


def structures_to_crystals(structures: Mapping[str, orm.StructureData]) -> Crystals:
    """Return `structures` as one batch in the order of the mapping, labelled by its keys.

    A site that is not one whole atom of one element (`X`, an alloy, a vacancy) gets the atomic number 0.
    """
    numbers, positions = [], []
    for structure in structures.values():
        of_kind = {kind.name: atomic_number(kind) for kind in structure.kinds}
        sites = structure.sites
        numbers.append([of_kind[site.kind_name] for site in sites])
        positions.append(np.array([site.position for site in sites], dtype=np.float64))
    cells = [np.array(structure.cell, dtype=np.float64) for structure in structures.values()]
    pbc = [structure.pbc for structure in structures.values()]
    return make_crystals(numbers, positions, cells, list(structures), pbc)


def moved_structure(
    structure: orm.StructureData, positions: NDArray[np.float64], cell: NDArray[np.float64]
) -> orm.StructureData:
    """Return an unstored copy of `structure` with other Cartesian `positions` (N, 3) and `cell` (3, 3) rows, in A.

    Sites keep their order and their kinds, and the periodic directions, the label and the extras stay.
    """
    moved = structure.clone()
    moved.set_cell(cell.tolist())
    moved.reset_sites_positions(positions.tolist())
    moved.base.extras.set_many(own_extras(structure))
    return moved


def own_extras(node: orm.Node) -> dict[str, Any]:
    """Return the extras that people have set on a node, those of AiiDA itself left out."""
    return {key: value for key, value in node.base.extras.all.items() if not key.startswith('_aiida')}


def find_faults(structures: Mapping[str, orm.StructureData]) -> dict[str, str]:
    """Return what makes structures unfit for any network, by key; sound ones are left out.

    These are the network's own checks of its input, before it looks at neighbours.
    """
    labels = list(structures)
    found = input_faults(structures_to_crystals(structures), ELEMENTS)
    faults = {labels[index]: message for index, (_, message) in found.items()}
    for label, structure in structures.items():
        if odd := [kind for kind in structure.kinds if atomic_number(kind) == NO_ELEMENT]:
            faults[label] = (
                f'kind `{odd[0].name}` is {odd[0].get_symbols_string()}, expected one whole atom of an element'
            )
    return faults


def can_be_stored(structure: orm.StructureData) -> bool:
    """Return whether AiiDA takes `structure`: its numbers are finite, its periodic directions span a volume."""
    if structure.is_stored:
        return True
    numbers = [*structure.cell, *(site.position for site in structure.sites)]
    return bool(np.isfinite(numbers).all() and (not any(structure.pbc) or structure.get_dimensionality()['value'] != 0))


def atomic_number(kind: orm.Kind) -> int:
    """Return the atomic number of a kind, or `NO_ELEMENT` for anything but one whole atom of one element."""
    if kind.is_alloy or kind.has_vacancies:
        return NO_ELEMENT
    return ATOMIC_NUMBERS[kind.symbol]
