"""Checks that a freedom suits a crystal, the network and VASP. Each returns what is wrong and what to do, or None."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.crystals.freedom.freedom import AXES, NO_VACUUM, Freedom, Moves
from aiida_e3relax.crystals.freedom.vacuum import SMALLEST_VACUUM, Gap, Search, find_gap, gap_of, plane_normal
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.crystals.symmetry import SpaceGroup

AXIS_TOLERANCE = 1e-6
"""In A, how far the vacuum vector may be off its axis and the layer off the plane."""

WITHOUT_NETWORK = "`--no-network --freedom positions` (without `network_code`, freedom='positions')"


def find_freedom_fault(freedom: Freedom, crystal: Crystals, kinds: Sequence[str]) -> str | None:
    """Return why VASP cannot relax one crystal, its sites of these `kinds`, with this freedom."""
    return (
        find_vacuum_fault(freedom, crystal)
        or find_fixed_fault(freedom, len(crystal.numbers))
        or _find_symmetry_fault(freedom, crystal, kinds)
        or _find_vasp_fault(freedom, crystal)
    )


def find_molecule(freedom: Freedom, crystal: Crystals) -> str | None:
    """Return why the network cannot predict one crystal that is none: atoms that repeat in no direction."""
    gap = None if freedom.vacuum == NO_VACUUM else find_gap(crystal)
    if gap is None or gap.dimension:
        return None
    return (
        f'{gap}, and networks and potentials are asked about crystals alone; take {WITHOUT_NETWORK}{_way_out(freedom)}'
    )


def find_drift(held: Sequence[int], start: NDArray[np.float64], end: NDArray[np.float64]) -> str | None:
    """Return which of the `held` vectors of a cell ``(3, 3)`` a relaxation changed, in words; None if none."""
    for vacuum in held:
        change = np.abs(end[vacuum] - start[vacuum]).max()
        if change > AXIS_TOLERANCE:
            return (
                f'the vacuum vector {AXES[vacuum]} changed by {change:.2g} A: this VASP does not take '
                'LATTICE_CONSTRAINTS in relaxations; use VASP 6.5 or later, or `freedom: positions`'
            )
    return None


def find_vacuum_fault(freedom: Freedom, crystal: Crystals, search: Search | None = None) -> str | None:
    """Return why a relaxation of one crystal with this freedom would not keep its vacuum, or looks for one in vain."""
    vacuum = freedom.vacuum_axis(crystal.pbc[0])
    fault = _find_contradiction(freedom, crystal.pbc[0])
    if fault is None and vacuum is not None:
        fault = _find_declared_fault(freedom, crystal, vacuum)
    if fault or freedom.moves == Moves.POSITIONS:
        return fault
    gap = None if freedom.vacuum == NO_VACUUM else find_gap(crystal, search)
    if gap is not None and (vacuum is None or gap.dimension < 2):
        return _find_gap_fault(freedom, gap)
    if freedom.moves == Moves.IN_PLANE and vacuum is None:
        return (
            '`in-plane` needs to know the vacuum, and none is seen: set `pbc` to False along it, or give '
            '`{moves: in-plane, vacuum: c}`; for a crystal take `cell`'
        )
    return None


def find_fixed_fault(freedom: Freedom, n_sites: int) -> str | None:
    """Return why the sites of a crystal cannot be fixed with this freedom, or that nothing is left to move."""
    try:
        movable = freedom.movable(n_sites)
    except ValueError as error:
        return str(error)
    if freedom.moves == Moves.VOLUME and freedom.fixed:
        return '`volume` keeps all fractional coordinates (ISIF 7); leave out `fixed`'
    if freedom.moves == Moves.POSITIONS and not movable.any():
        return 'nothing may move: all sites are fixed and so is the cell; free a site, or take `cell` (ISIF 6)'
    return None


def _find_contradiction(freedom: Freedom, pbc: NDArray[np.bool_]) -> str | None:
    """Return where `vacuum` and the periodic directions of a structure say different things, or too many."""
    open_axes = np.flatnonzero(~pbc)
    if not len(open_axes):
        return None
    first = AXES[open_axes[0]]
    if freedom.vacuum == NO_VACUUM:
        return (
            f'`vacuum` is none, but the structure is not periodic along {first}; set `pbc` to True, or leave `vacuum` '
            'out'
        )
    if len(open_axes) > 1:
        return (
            f'the structure is periodic in {3 - len(open_axes)} direction; at most one may be a vacuum, set the others '
            'of `pbc` to True and relax with `positions`'
        )
    if freedom.vacuum not in (None, first):
        return f'`vacuum` is {freedom.vacuum}, but the structure is not periodic along {first}; change one of the two'
    return None


def _find_declared_fault(freedom: Freedom, crystal: Crystals, vacuum: int) -> str | None:
    letter = AXES[vacuum]
    if freedom.moves not in (Moves.POSITIONS, Moves.IN_PLANE):
        return (
            f'`{freedom.moves}` would let VASP close the vacuum along {letter}; take `in-plane`, or `positions` to '
            'keep the whole cell'
        )
    gap = gap_of(freedom, crystal)
    if gap is not None and gap.width < SMALLEST_VACUUM:
        return (
            f'along {letter} no more than {gap.width:.1f} A are empty, expected a vacuum of at least '
            f'{SMALLEST_VACUUM:g} A; name the right lattice vector, or widen the cell'
        )
    return None


def _find_gap_fault(freedom: Freedom, gap: Gap) -> str | None:
    """Return why a freedom that moves the cell does not suit a structure with a vacuum that was found in it."""
    keep = "`--freedom positions` (freedom='positions') to keep the whole cell"
    if gap.dimension == 2 and gap.open_axes:
        if freedom.moves == Moves.IN_PLANE:
            return None
        letter = AXES[gap.open_axes[0]]
        way = (
            f"`--freedom in-plane --vacuum {letter}` (freedom={{'moves': 'in-plane', 'vacuum': '{letter}'}}) to relax "
            f'the lattice of the layer too, or {keep}'
        )
    elif gap.dimension == 2:
        way = f'{keep}, or a cell in which two lattice vectors lie in the layer'
    else:
        way = keep if gap.dimension else WITHOUT_NETWORK
    return f'`{freedom.moves}` would close a vacuum: the structure is {gap}; take {way}{_way_out(freedom)}'


def _way_out(freedom: Freedom) -> str:
    """Return what to say where a vacuum was found that is none."""
    return f"; for a bulk crystal `--vacuum none` (freedom={{'moves': '{freedom.moves}', 'vacuum': 'none'}})"


def _find_vasp_fault(freedom: Freedom, crystal: Crystals) -> str | None:
    """Return why LATTICE_CONSTRAINTS of VASP cannot hold the vacuum of a layer."""
    gap = gap_of(freedom, crystal) if freedom.moves == Moves.IN_PLANE else None
    return _find_orientation_fault(crystal.cell[0], gap.open_axes[0]) if gap else None


def _find_orientation_fault(cell: np.ndarray, vacuum: int) -> str | None:
    letter, others = AXES[vacuum], [axis for axis in range(3) if axis != vacuum]
    normal = plane_normal(cell, vacuum)
    tilt = np.linalg.norm(cell[vacuum] - (cell[vacuum] @ normal) * normal)
    if tilt > AXIS_TOLERANCE:
        return (
            f'the vacuum vector {letter} leans over by {tilt:.3g} A, and VASP, which holds Cartesian directions by '
            f'LATTICE_CONSTRAINTS, would change it; replace it by its part normal to the layer (the vacuum makes this '
            f'the same layer), {np.round((cell[vacuum] @ normal) * normal, 6).tolist()}, or take `positions`'
        )
    if np.abs(cell[vacuum, others]).max() > AXIS_TOLERANCE or np.abs(cell[others, vacuum]).max() > AXIS_TOLERANCE:
        return (
            f'VASP holds Cartesian directions by LATTICE_CONSTRAINTS; turn the crystal so that the vacuum vector '
            f'{letter} lies along {"xyz"[vacuum]}, or take `positions`'
        )
    return None


def _find_symmetry_fault(freedom: Freedom, crystal: Crystals, kinds: Sequence[str]) -> str | None:
    if not freedom.keep_symmetry:
        return None
    try:
        group = SpaceGroup.of(crystal, kinds)
    except ValueError as error:
        return f'`keep_symmetry`: {error}'
    if not group.keeps(freedom.movable(len(kinds))):
        return (
            f'the `fixed` coordinates are not symmetric under {group.name}, the space group to be kept; fix all '
            'equivalent sites alike, or leave out `keep_symmetry`'
        )
    return None
