"""The frame in which crystals are shown to a model: their own, or a along x, b in the xy plane, c on its positive side.

Training, validation and prediction all take it from `Frame`.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.crystals.structures import Crystals


@dataclasses.dataclass(frozen=True)
class Frame:
    """How S crystals are turned before a model sees them.

    Crystals are turned and never reflected. Of a left-handed cell the third vector is reversed, which leaves the
    lattice as it is.

    Attributes
    ----------
    rotation
        ``(S, 3, 3)`` by which rows are multiplied from the right; None where crystals stay as they are.
    third
        ``(S,)`` sign by which the third lattice vector is multiplied.
    """

    rotation: NDArray[np.float64] | None = None
    third: NDArray[np.float64] | None = None

    @classmethod
    def of(cls, crystals: Crystals, *, standard: bool) -> Frame:
        """Return the `standard` orientation of unrelaxed `crystals`, or the frame that they are in."""
        if not standard:
            return cls()
        third = np.where(np.linalg.det(crystals.cell) < 0, -1.0, 1.0)
        frame, triangle = np.linalg.qr(_with_third(crystals.cell, third).transpose(0, 2, 1))
        diagonal = np.diagonal(triangle, axis1=1, axis2=2)
        return cls(frame * np.where(diagonal < 0, -1.0, 1.0)[:, None, :], third)

    def turned(self, crystals: Crystals) -> Crystals:
        """Return `crystals`, unrelaxed or relaxed, in this frame."""
        if self.rotation is None or self.third is None:
            return crystals
        positions = np.einsum('ax,axy->ay', crystals.positions, self.rotation[crystals.structure_index])
        return crystals.replace(positions, _with_third(crystals.cell, self.third) @ self.rotation)

    def turned_back(self, crystals: Crystals) -> Crystals:
        """Return `crystals` that `turned`, or a model after it, gave in the frame from which they came."""
        if self.rotation is None or self.third is None:
            return crystals
        positions = np.einsum('ay,axy->ax', crystals.positions, self.rotation[crystals.structure_index])
        return crystals.replace(positions, _with_third(crystals.cell @ self.rotation.transpose(0, 2, 1), self.third))

    def offsets_turned_back(self, offset: NDArray[np.int64], crystal: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return cell offsets ``(E, 3)`` of crystals ``(E,)`` in this frame, in the frame from which they came."""
        if self.third is None:
            return offset
        turned = offset.copy()
        turned[:, 2] *= self.third.astype(offset.dtype)[crystal]
        return turned


def _with_third(cell: NDArray[np.float64], sign: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cells ``(S, 3, 3)`` with their third rows multiplied by `sign` ``(S,)``."""
    return cell * np.stack([np.ones_like(sign), np.ones_like(sign), sign], axis=1)[:, :, None]
