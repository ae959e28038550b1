"""What may move in a relaxation: one choice for the prediction and for VASP alike."""

from __future__ import annotations

import enum

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
        """Return `prediction` without what may not move, and without a common shift of all its atoms.

        The sites of `start` are shifted by the predicted fractional displacements, in the predicted cell or, under
        `positions`, in the cell of `start`. The common shift is no relaxation, and it would take the symmetry elements
        off the origin, where codes look for them: GPAW then computes with several times the k-points.
        """
        cell = start.cell if self is Freedom.POSITIONS else prediction.cell
        fractional = start.fractional() + fractional_displacements(start, prediction)
        return start.replace(fractional @ cell[0], cell)
