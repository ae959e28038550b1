"""The bonds of one crystal with what a network states of their lengths."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.crystals.metrics import Bonds
from aiida_e3relax.crystals.structures import Crystals


@dataclasses.dataclass(frozen=True, eq=False)
class StatedBonds:
    """E directed bonds of one crystal; lengths and uncertainties in A, positions in the images of the input.

    Attributes
    ----------
    centre, neighbour
        ``(E,)`` sites, counted from 0.
    offset
        ``(E, 3)`` the cell of the neighbour's image: the bond is ``r_neighbour + offset @ cell - r_centre``.
    predicted_length
        ``(E,)`` lengths as the network states them, each by itself.
    uncertainty
        ``(E,)`` the errors to expect of them.
    final_length, initial_length
        ``(E,)`` lengths in the predicted crystal, in which what may not move has stayed, and in the input.
    """

    centre: NDArray[np.int32]
    neighbour: NDArray[np.int32]
    offset: NDArray[np.int32]
    predicted_length: NDArray[np.float64]
    uncertainty: NDArray[np.float64]
    final_length: NDArray[np.float64]
    initial_length: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.centre)

    def lengths_in(self, crystal: Crystals) -> NDArray[np.float64]:
        """Return the ``(E,)`` lengths in A in another geometry of the crystal, its sites in the same images."""
        return Bonds(self.centre, self.neighbour, self.offset).lengths(crystal)  # type: ignore[arg-type]
