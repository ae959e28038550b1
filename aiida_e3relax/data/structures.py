"""The way between `StructureData` nodes and flat arrays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from aiida import orm
from aiida.common.constants import elements
from numpy.typing import NDArray

from aiida_e3relax.gnn.structures import Crystals, make_crystals

UNKNOWN_ELEMENT = 0
SMALLEST_CELL_RATIO = 1e-6
ATOMIC_NUMBERS = {data['symbol']: number for number, data in elements.items()}


def structures_to_crystals(structures: Mapping[str, orm.StructureData]) -> Crystals:
    """Return `structures` as one batch in the order of the mapping, labelled by its keys.

    A site that is not one whole atom of one known element (`X`, an alloy, a vacancy) gets the atomic number 0.
    """
    numbers, positions = [], []
    for structure in structures.values():
        of_kind = {kind.name: _atomic_number(kind) for kind in structure.kinds}
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

    Sites keep their order and their kinds, and the periodic directions stay.
    """
    moved = structure.clone()
    moved.set_cell(cell.tolist())
    moved.reset_sites_positions(positions.tolist())
    return moved


def find_fault(structure: orm.StructureData) -> str | None:
    """Return why no network can predict from `structure`, or None when nothing speaks against it."""
    return _find_site_fault(structure) or _find_cell_fault(np.array(structure.cell, dtype=np.float64))


def _find_site_fault(structure: orm.StructureData) -> str | None:
    sites = structure.sites
    if not sites:
        return 'it has no sites; add atoms'
    for index, site in enumerate(sites):
        if not np.isfinite(site.position).all():
            return f'site {index} has the position {tuple(site.position)}; positions must be finite numbers'
    for kind in structure.kinds:
        if _atomic_number(kind) == UNKNOWN_ELEMENT:
            return (
                f'kind `{kind.name}` is made of {kind.get_symbols_string()}; each site must be one whole atom of an '
                'element from H to Lr'
            )
    return None


def _find_cell_fault(cell: NDArray[np.float64]) -> str | None:
    if not np.isfinite(cell).all():
        return f'its cell is {cell.tolist()}; lattice vectors must be finite numbers'
    volume = float(np.linalg.det(cell))
    if abs(volume) <= SMALLEST_CELL_RATIO * float(np.prod(np.linalg.norm(cell, axis=1))):
        return f'its cell {cell.tolist()} is singular (volume {volume:.3g} A^3); give three independent lattice vectors'
    if volume < 0:
        return (
            f'its cell {cell.tolist()} is left-handed (volume {volume:.3g} A^3); swap two lattice vectors, '
            'Cartesian positions stay as they are'
        )
    return None


def _atomic_number(kind: orm.Kind) -> int:
    """Return the atomic number of a kind, or `UNKNOWN_ELEMENT` for anything but one whole atom of one element."""
    if kind.is_alloy or kind.has_vacancies:
        return UNKNOWN_ELEMENT
    return ATOMIC_NUMBERS[kind.symbol]
