"""The teacher: a potential that relaxes starts by the package's own pre-relaxation."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aiida_e3relax.common.errors import MissingPackageError
from aiida_e3relax.common.progress import NoProgress, ProgressLine
from aiida_e3relax.crystals.freedom.freedom import AXES, NO_VACUUM, Freedom, Moves
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.gnn.checkpoints.checkpoint import load_checkpoint
from aiida_e3relax.gnn.prediction.pre_relaxation import PreRelaxation
from aiida_e3relax.gnn.prediction.predictor import Predictor, load_pre_relaxation
from aiida_e3relax.gnn.prediction.settings import ENGINES, PotentialSettings, PredictionSettings


@dataclasses.dataclass(frozen=True, eq=False)
class Teacher:
    """A potential that relaxes starts, from where they are or from what a network predicts of them.

    Attributes
    ----------
    predictor
        The potential, after the network where there is one.
    facts
        The potential with the hash of its weights, the bounds at which it stops, and the hash of the network.
    """

    predictor: Predictor
    facts: dict[str, Any]

    @classmethod
    def load(cls, settings: PotentialSettings, model: Path, device: torch.device) -> Teacher:
        """Return the potential that `settings` name, in batches where that can be.

        Raises as `load_checkpoint` and `load_potential` do.

        Parameters
        ----------
        settings
            The potential, where it begins and when it stops.
        model
            The checkpoint of the network, where the potential begins at its predictions.
        device
            Where both compute.
        """
        try:
            relaxation = load_pre_relaxation(dataclasses.replace(settings, in_batches=True), device, 'float32')
        except MissingPackageError:  # of what batches need, or of the potential, which is told then
            relaxation = load_pre_relaxation(settings, device, 'float32')
        assert relaxation is not None
        return cls.of(relaxation, model if settings.start == 'network' else None, device)

    @classmethod
    def of(cls, relaxation: PreRelaxation, model: Path | None, device: torch.device) -> Teacher:
        """Return a teacher that is loaded, after the network `model` or None."""
        network = None if model is None else load_checkpoint(model)
        facts = relaxation.facts()
        if network is not None:
            facts |= {'network': network.content_hash}
        return cls(Predictor(network, device, torch.float32, ENGINES[0], relaxation), facts)

    @property
    def name(self) -> str:
        """Potential, version and hash of the weights, for every pair."""
        return f'{self.facts["potential"]} {self.facts["version"]} {self.facts["content_hash"]}'

    def relax(self, starts: Pairs, line: ProgressLine | None = None) -> tuple[Pairs, list[dict[str, Any]]]:
        """Return the starts with their relaxed crystals, and the rows of the report.

        What was not relaxed ends where it began. Symmetry is kept, as VASP keeps it; what moves stands in `about`.
        """
        before = starts.unrelaxed
        positions, cell = before.positions.copy(), before.cell.copy()
        rows: list[dict[str, Any]] = [{}] * len(starts)
        for moves in np.unique(starts.about['moves']).tolist():
            indices = np.flatnonzero(starts.about['moves'] == moves)
            vacuum = AXES[2] if moves == Moves.IN_PLANE else NO_VACUUM
            result, _, told = self.predictor.predict(
                before.select(indices),
                [None] * len(indices),
                Freedom(moves, keep_symmetry=True, vacuum=vacuum),
                PredictionSettings.max_edges,
                line or NoProgress(),
            )
            for place, (index, row) in enumerate(zip(indices.tolist(), told, strict=True)):
                rows[index] = row
                if row['status'] == 'ok':
                    one = result.crystals.select([place])
                    positions[before.offsets[index] : before.offsets[index + 1]] = one.positions
                    cell[index] = one.cell[0]
        return dataclasses.replace(starts, relaxed=before.replace(positions, cell)), rows
