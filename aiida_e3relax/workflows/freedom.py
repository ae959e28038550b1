"""What may move in a relaxation: one choice for the prediction and for VASP alike."""

from __future__ import annotations

import enum

import numpy as np

from aiida_e3relax.gnn.structures import Crystals
from aiida_e3relax.workflows.geometry import fractional_displacements


class Freedom(enum.StrEnum):
    """The degrees of freedom of a relaxation."""

    POSITIONS = 'positions'
    """The atoms move, the cell stays exactly as it is."""

    CELL = 'cell'
    """Atoms and cell move: everything is relaxed."""

    def relax_flags(self) -> dict[str, bool]:
        """Return the flags of aiida-vasp's `relax_settings` that say the same; they set ISIF."""
        cell_moves = self is Freedom.CELL
        return {'positions': True, 'shape': cell_moves, 'volume': cell_moves}

    def restrict(self, start: Crystals, prediction: Crystals) -> Crystals:
        """Return `prediction` without what may not move.

        Under `positions` that is the cell of `start` with the sites shifted by the predicted fractional displacements.
        """
        if self is Freedom.CELL:
            return prediction
        shift = fractional_displacements(start, prediction)
        return start.replace(start.positions + np.einsum('ac,cx->ax', shift, start.cell[0]), start.cell)
