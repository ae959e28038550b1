"""Fixed sites: ASE's constraints, and which fractional coordinates may change, from one to the other."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ase import Atoms
    from ase.constraints import FixConstraint


def movable_coordinates(atoms: Atoms) -> NDArray[np.bool_] | None:
    """Return ``(N, 3)`` which fractional coordinates the constraints of `atoms` let change; None without constraints.

    Raises ValueError for constraints other than on fractional coordinates, which VASP's selective dynamics has not.
    """
    if not atoms.constraints:
        return None
    movable = np.ones((len(atoms), 3), dtype=bool)
    for constraint in atoms.constraints:
        movable[constraint.get_indices()] &= ~_fixed_by(constraint, atoms.cell.array)
    return movable


def make_constraints(movable: NDArray[np.bool_], cell: NDArray[np.float64], cartesian: bool) -> list[FixConstraint]:
    """Return ASE's constraints that hold the fractional coordinates which may not change.

    Parameters
    ----------
    movable
        ``(N, 3)`` which fractional coordinates may change.
    cell
        ``(3, 3)`` lattice vectors as rows, in A.
    cartesian
        Whether sites that are held in part are held along x, y and z, for formats that know no other. Raises
        ValueError where that is not the same.
    """
    from ase.constraints import FixAtoms, FixCartesian, FixScaled

    fixed = ~movable
    constraints: list[FixConstraint] = []
    for row in np.unique(fixed, axis=0):
        sites = np.flatnonzero((fixed == row).all(axis=1))
        if row.all():
            constraints.append(FixAtoms(sites))
        elif row.any() and cartesian:
            directions = _same_span(np.linalg.inv(cell).T[row], np.eye(3))
            if directions is None:
                raise ValueError('sites are held along lattice vectors that do not lie along x, y and z')
            constraints.append(FixCartesian(sites, mask=directions))
        elif row.any():
            constraints.append(FixScaled(sites, mask=row))
    return constraints


def _fixed_by(constraint: FixConstraint, cell: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return ``(3,)`` which fractional coordinates one constraint holds."""
    from ase.constraints import FixAtoms, FixCartesian, FixedLine, FixedPlane, FixScaled

    if isinstance(constraint, FixAtoms):
        return np.ones(3, dtype=bool)
    if isinstance(constraint, FixScaled):
        return np.array(constraint.mask, dtype=bool)
    if isinstance(constraint, FixCartesian):
        held = np.eye(3)[np.array(constraint.mask, dtype=bool)]
    elif isinstance(constraint, FixedPlane):
        held = np.array(constraint.dir)[None]
    elif isinstance(constraint, FixedLine):
        held = np.linalg.svd(np.array(constraint.dir, dtype=np.float64)[None])[2][1:]
    else:
        raise ValueError(f'expected sites held along lattice vectors, found the constraint {type(constraint).__name__}')
    fixed = _same_span(held, np.linalg.inv(cell).T)
    if fixed is None:
        raise ValueError(
            f'the constraint {type(constraint).__name__} holds sites along directions that are none of the lattice '
            'vectors; hold them along lattice vectors, as by selective dynamics'
        )
    return fixed


def _same_span(vectors: NDArray[Any], others: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Return which of three `others` ``(3, 3)`` span the same space as `vectors` ``(n, 3)``; None where none do."""
    others = others / np.linalg.norm(others, axis=1, keepdims=True)
    for chosen in itertools.combinations(range(3), len(vectors)):
        if np.linalg.matrix_rank(np.vstack([vectors, others[list(chosen)]]), tol=1e-6) == len(vectors):
            return np.isin(np.arange(3), chosen)
    return None
