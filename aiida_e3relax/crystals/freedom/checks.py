"""Whether VASP can honour a freedom for a crystal. Each check returns what is wrong and what to do, or None."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aiida_e3relax.crystals.freedom.freedom import AXES, Freedom, Moves
from aiida_e3relax.crystals.freedom.vacuum import plane_normal, vacuum_thickness
from aiida_e3relax.gnn.structures import Crystals
from aiida_e3relax.gnn.symmetry import SpaceGroup

SMALLEST_VACUUM = 5.0
"""In A; between the layers of a crystal there are 3 to 4."""

AXIS_TOLERANCE = 1e-6
"""In A, how far the vacuum vector may be off its axis and the layer off the plane."""


def find_freedom_fault(freedom: Freedom, crystal: Crystals, kinds: Sequence[str]) -> str | None:
    """Return why VASP cannot relax one crystal, its sites of these `kinds`, with this freedom."""
    return (
        _find_vacuum_fault(freedom, crystal)
        or _find_fixed_fault(freedom, len(kinds))
        or _find_symmetry_fault(freedom, crystal, kinds)
    )


def find_drift(freedom: Freedom, start: Crystals, end: Crystals) -> str | None:
    """Return what a relaxation from `start` to `end` moved although it may not, in words; None if nothing."""
    cell, relaxed = start.cell[0], end.cell[0]
    vacuum = freedom.vacuum_axis(start.pbc[0])
    if freedom.moves == Moves.IN_PLANE and vacuum is not None:
        change = np.abs(relaxed[vacuum] - cell[vacuum]).max()
        if change > AXIS_TOLERANCE:
            return (
                f'the vacuum vector {AXES[vacuum]} changed by {change:.2g} A: this VASP does not take '
                'LATTICE_CONSTRAINTS in relaxations; use VASP 6.5 or later, or `freedom: positions`'
            )
    return None


def _find_vacuum_fault(freedom: Freedom, crystal: Crystals) -> str | None:
    open_axes = np.flatnonzero(~crystal.pbc[0])
    vacuum = freedom.vacuum_axis(crystal.pbc[0])
    if len(open_axes) > 1:
        return (
            f'the structure is periodic in {3 - len(open_axes)} direction; at most one may be a vacuum, set the others '
            'of `pbc` to True and relax with `positions`'
        )
    if vacuum is None:
        unknown = (
            '`in-plane` needs to know the vacuum: set `pbc` to False along it, or give `{moves: in-plane, vacuum: c}`'
        )
        return unknown if freedom.moves == Moves.IN_PLANE else None
    if len(open_axes) and open_axes[0] != vacuum:
        return (
            f'`vacuum` is {AXES[vacuum]}, but the structure is not periodic along {AXES[open_axes[0]]}; change one of '
            'the two'
        )
    return _find_layer_fault(freedom, crystal, vacuum)


def _find_layer_fault(freedom: Freedom, crystal: Crystals, vacuum: int) -> str | None:
    letter = AXES[vacuum]
    if freedom.moves not in (Moves.POSITIONS, Moves.IN_PLANE):
        return (
            f'`{freedom.moves}` would let VASP close the vacuum along {letter}; take `in-plane`, or `positions` to '
            'keep the whole cell'
        )
    thickness = vacuum_thickness(crystal.fractional(), crystal.cell[0], vacuum)
    if thickness < SMALLEST_VACUUM:
        return (
            f'along {letter} no more than {thickness:.1f} A are empty, expected a vacuum of at least '
            f'{SMALLEST_VACUUM:g} A; name the right lattice vector, or widen the cell'
        )
    return _find_orientation_fault(crystal.cell[0], vacuum) if freedom.moves == Moves.IN_PLANE else None


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


def _find_fixed_fault(freedom: Freedom, n_sites: int) -> str | None:
    try:
        movable = freedom.movable(n_sites)
    except ValueError as error:
        return str(error)
    if freedom.moves == Moves.VOLUME and freedom.fixed:
        return '`volume` keeps all fractional coordinates (ISIF 7); leave out `fixed`'
    if freedom.moves == Moves.POSITIONS and not movable.any():
        return 'nothing may move: all sites are fixed and so is the cell; free a site, or take `cell` (ISIF 6)'
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
