"""The symmetry of predictions in single precision, restored crystal by crystal, and what a report says of that."""

from __future__ import annotations

import dataclasses
import importlib.util
import time
from typing import Any, Self

import torch

from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.gnn.models.base import RelaxationModel, Transformation
from aiida_e3relax.gnn.prediction.freedom import PredictionFreedom, kinds_of
from aiida_e3relax.gnn.prediction.predict import Predictions

RESTORED = 'restored'
AS_COMPUTED = 'as computed'


@dataclasses.dataclass
class SymmetryRestoration:
    """What becomes of the symmetry of predictions.

    Attributes
    ----------
    why_not
        Why nothing is restored; empty where it is.
    n_restored, n_left
        Symmetric crystals whose predictions are as symmetric as their input now, and those that stayed as computed.
    largest_correction
        How far something was moved, in A.
    """

    why_not: str = ''
    n_restored: int = 0
    n_left: int = 0
    largest_correction: float = 0.0

    @classmethod
    def of(cls, model: RelaxationModel | None, dtype: torch.dtype, is_wanted: bool) -> Self:
        """Return that of the predictions of a model in a precision."""
        if model is None:
            return cls('there is no network')
        if dtype != torch.float32:
            return cls('the rounding of float64 hides none')
        if not is_wanted:
            return cls('not asked for')
        if model.breaks & {Transformation.SITE_SYMMETRY, Transformation.CELL_SYMMETRY}:
            return cls(f'{type(model).__name__} does not keep it, whatever the precision')
        if importlib.util.find_spec('spglib') is None:
            return cls('spglib is not installed')
        return cls()

    def restore(self, crystals: Crystals, result: Predictions, free: PredictionFreedom) -> None:
        """Restore the symmetry of the input `crystals` in the predictions `result`, as far as that may move."""
        if self.why_not:
            return
        from aiida_e3relax.crystals.rounding import restore_symmetry

        begin = time.perf_counter()
        positions, cell, offsets = result.crystals.positions.copy(), result.crystals.cell.copy(), crystals.offsets
        for index in range(len(crystals)):
            if index in result.faults:
                continue
            start, prediction = crystals.select([index]), result.crystals.select([index])
            movable = free.of(index).movable(len(start.numbers))
            try:
                restored, correction = restore_symmetry(start, prediction, kinds_of(start), movable)
            except ValueError as error:
                self.n_left += 1
                note = f'the symmetry was not restored: {error}'
                free.notes[index] = '; '.join(filter(None, (free.notes.get(index), note)))
                continue
            if restored is prediction:  # the input has no symmetry
                continue
            self.n_restored += 1
            self.largest_correction = max(self.largest_correction, correction)
            positions[offsets[index] : offsets[index + 1]], cell[index] = restored.positions, restored.cell[0]
        result.crystals = result.crystals.replace(positions, cell)
        result.seconds['symmetry'] = time.perf_counter() - begin

    def facts(self) -> dict[str, Any]:
        """Return what a report says of it."""
        if self.why_not:
            return {'state': AS_COMPUTED, 'reason': self.why_not}
        return {
            'state': RESTORED,
            'crystals': self.n_restored,
            'left': self.n_left,
            'largest_correction_A': self.largest_correction,
        }
