"""The teacher: a potential that relaxes starts by the package's own pre-relaxation."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aiida_e3relax.common.errors import MissingPackageError
from aiida_e3relax.common.progress import NoProgress, ProgressLine
from aiida_e3relax.crystals.freedom.pairs import find_fixed_sites, freedom_of
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.gnn.checkpoints.checkpoint import load_checkpoint
from aiida_e3relax.gnn.prediction.pre_relaxation import PreRelaxation
from aiida_e3relax.gnn.prediction.predictor import Predictor, load_pre_relaxation
from aiida_e3relax.gnn.prediction.settings import ENGINES, STARTS, PotentialSettings, PredictionSettings


@dataclasses.dataclass(frozen=True, eq=False)
class Teacher:
    """A potential that relaxes starts, from where they are or from what a network predicts of them.

    Starts that a network is judged by are relaxed from where they are in any case: from its own predictions a potential
    would often go to the minimum that is next to these.

    Attributes
    ----------
    predictor
        The potential, after the network where there is one.
    judge
        The potential alone.
    facts
        The potential with the hash of its weights, the bounds at which it stops, and with a network its hash and where
        starts that are held out begin.
    """

    predictor: Predictor
    judge: Predictor
    facts: dict[str, Any]

    @classmethod
    def load(cls, settings: PotentialSettings, model: Path, device: torch.device, is_compiled: bool = False) -> Teacher:
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
        is_compiled
            Whether the potential is compiled, as `load_potential` does it.
        """
        batches = dataclasses.replace(settings, in_batches=True)
        try:
            relaxation = load_pre_relaxation(batches, device, 'float32', is_compiled=is_compiled)
        except MissingPackageError:  # of what batches need, or of the potential, which is told then
            relaxation = load_pre_relaxation(settings, device, 'float32', is_compiled=is_compiled)
        assert relaxation is not None
        return cls.of(relaxation, model if settings.start == 'network' else None, device)

    @classmethod
    def of(cls, relaxation: PreRelaxation, model: Path | None, device: torch.device) -> Teacher:
        """Return a teacher that is loaded, after the network `model` or None."""
        network = None if model is None else load_checkpoint(model)
        facts = relaxation.facts()
        judge = predictor = Predictor(network, device, torch.float32, ENGINES[0], relaxation)
        if network is not None:
            facts |= {'network': network.content_hash, 'held_out_start': STARTS[1]}
            alone = dataclasses.replace(relaxation, settings=dataclasses.replace(relaxation.settings, start=STARTS[1]))
            judge = Predictor(None, device, torch.float32, ENGINES[0], alone)
        return cls(predictor, judge, facts)

    @property
    def name(self) -> str:
        """Potential, version and hash of the weights, for every pair."""
        return f'{self.facts["potential"]} {self.facts["version"]} {self.facts["content_hash"]}'

    def relax(self, starts: Pairs, line: ProgressLine | None = None) -> tuple[Pairs, list[dict[str, Any]]]:
        """Return the starts with their relaxed crystals, and the rows of the report.

        What was not relaxed ends where it began. Symmetry is kept, as VASP keeps it; what moves stands in `about`.
        """
        is_learnt, line = starts.split == 'train', line or NoProgress()
        indices, parts, rows = [], [], []
        for predictor, chosen in ((self.predictor, is_learnt), (self.judge, ~is_learnt)):
            if chosen.any():
                pairs, told = predict_freely(predictor, starts.select(np.flatnonzero(chosen)), line, keep_symmetry=True)
                indices.append(np.flatnonzero(chosen))
                parts.append(pairs)
                rows += told
        order = np.argsort(np.concatenate(indices))
        return Pairs.concatenate(parts).select(order), [rows[place] for place in order.tolist()]


def predict_freely(
    predictor: Predictor, starts: Pairs, line: ProgressLine, keep_symmetry: bool = False
) -> tuple[Pairs, list[dict[str, Any]]]:
    """Return the starts with what a `predictor` makes of them as relaxed crystals, and the rows of the report.

    What moves in each, a word of `Moves`, stands in `about`; fixed sites are held. A layer has its vacuum along c. What
    fails ends where it began.
    """
    before = starts.unrelaxed
    positions, cell = before.positions.copy(), before.cell.copy()
    rows: list[dict[str, Any]] = [{}] * len(starts)
    for moves in np.unique(starts.about['moves']).tolist():
        indices = np.flatnonzero(starts.about['moves'] == moves)
        chosen, fixed = _numbered(starts.select(indices))
        result, _, told = predictor.predict(
            chosen,
            [None] * len(indices),
            freedom_of(moves, keep_symmetry),
            PredictionSettings.max_edges,
            line,
            fixed=fixed,
        )
        for place, (index, row) in enumerate(zip(indices.tolist(), told, strict=True)):
            rows[index] = {**row, 'label': str(before.labels[index])}
            if row['status'] == 'ok':
                one = result.crystals.select([place])
                positions[before.offsets[index] : before.offsets[index + 1]] = one.positions
                cell[index] = one.cell[0]
    return dataclasses.replace(starts, relaxed=before.replace(positions, cell)), rows


def _numbered(starts: Pairs) -> tuple[Crystals, dict[str, dict[str, list[int]]]]:
    """Return the unrelaxed crystals, their numbers as labels, and by these the sites that are fixed."""
    crystals = dataclasses.replace(starts.unrelaxed, labels=np.arange(len(starts)).astype(str))
    return crystals, find_fixed_sites(starts, crystals.labels.tolist())
