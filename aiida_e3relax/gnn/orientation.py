"""The standard orientation of crystals: a along x, b in the xy plane, c on its positive side."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.gnn.structures import Crystals


def in_standard_orientation(crystals: Crystals) -> tuple[Crystals, NDArray[np.float64]]:
    """Return `crystals` turned, and the rotations ``(S, 3, 3)`` that rows were multiplied by from the right.

    Crystals are turned and never reflected. Of a left-handed cell the third vector is reversed, which leaves the
    lattice as it is: see `reversed_where_left_handed`.
    """
    right_handed = reversed_where_left_handed(crystals.cell, crystals.cell)
    frame, triangle = np.linalg.qr(right_handed.transpose(0, 2, 1))
    diagonal = np.diagonal(triangle, axis1=1, axis2=2)
    rotation = frame * np.where(diagonal < 0, -1.0, 1.0)[:, None, :]
    positions = np.einsum('ax,axy->ay', crystals.positions, rotation[crystals.structure_index])
    return crystals.replace(positions, right_handed @ rotation), rotation


def in_orientation_of(crystals: Crystals, given: Crystals, rotation: NDArray[np.float64]) -> Crystals:
    """Return `crystals`, which came from `given` by `rotation` and a relaxation, turned back."""
    positions = np.einsum('ay,axy->ax', crystals.positions, rotation[crystals.structure_index])
    cell = reversed_where_left_handed(crystals.cell @ rotation.transpose(0, 2, 1), given.cell)
    return crystals.replace(positions, cell)


def reversed_where_left_handed(cell: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cells ``(S, 3, 3)`` with the third row negated where the one in `reference` is left-handed."""
    sign = np.where(np.linalg.det(reference) < 0, -1.0, 1.0)
    return cell * np.stack([np.ones_like(sign), np.ones_like(sign), sign], axis=1)[:, :, None]
