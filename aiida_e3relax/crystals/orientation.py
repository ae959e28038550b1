"""The frame in which a model sees crystals: their own, or a along x, b in the xy plane, c on its positive side.

Training, validation and prediction all take it from `ModelFrame`.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.crystals.structures import Crystals

if TYPE_CHECKING:
    from aiida_e3relax.gnn.models.base import RelaxationModel

OWN, STANDARD = 'own', 'standard'
"""The frames by the names that the training facts of a checkpoint use; earlier releases, which always trained in the
crystals' own frame, named none."""


def warn_of_frame(path: Path, model: RelaxationModel, training: Mapping[str, Any]) -> None:
    """Warn where the facts of its `training` say that an earlier release trained `model` in another frame than this."""
    if model.standard_orientation and 'settings' in training and training.get('frame') != STANDARD:
        warnings.warn(
            f'{path}: an earlier release trained this model in the frame of its files, but it predicts in the standard '
            'orientation: predictions may be worse than its card says; train it anew',
            stacklevel=3,
        )


@dataclasses.dataclass(frozen=True)
class ModelFrame:
    """How S crystals are turned before a model sees them.

    Crystals are turned and never reflected. Of a left-handed cell the third vector is reversed, which leaves the
    lattice as it is.

    Attributes
    ----------
    rotation
        ``(S, 3, 3)`` by which rows are multiplied from the right; None of a model that any frame suits.
    third
        ``(S,)`` sign by which the third lattice vector is multiplied.
    """

    rotation: NDArray[np.float64] | None = None
    third: NDArray[np.float64] | None = None

    @classmethod
    def of(cls, model: RelaxationModel, crystals: Crystals) -> ModelFrame:
        """Return the frame in which `model` sees `crystals`, before their relaxation."""
        return cls.standard(crystals) if model.standard_orientation else cls()

    @classmethod
    def standard(cls, crystals: Crystals) -> ModelFrame:
        """Return the standard orientation of `crystals`."""
        third = np.where(np.linalg.det(crystals.cell) < 0, -1.0, 1.0)
        frame, triangle = np.linalg.qr(_with_third(crystals.cell, third).transpose(0, 2, 1))
        diagonal = np.diagonal(triangle, axis1=1, axis2=2)
        return cls(frame * np.where(diagonal < 0, -1.0, 1.0)[:, None, :], third)

    def turned(self, crystals: Crystals) -> Crystals:
        """Return `crystals`, unrelaxed or relaxed, as the model sees them."""
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


def _with_third(cell: NDArray[np.float64], sign: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cells ``(S, 3, 3)`` with their third rows multiplied by `sign` ``(S,)``."""
    return cell * np.stack([np.ones_like(sign), np.ones_like(sign), sign], axis=1)[:, :, None]
