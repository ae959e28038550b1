"""A loaded model that predicts for one batch of crystals after the other: behind files and behind Python alike."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from aiida_e3relax.common.progress import ProgressLine
from aiida_e3relax.crystals.freedom.freedom import Freedom
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.gnn.checkpoints.checkpoint import Checkpoint
from aiida_e3relax.gnn.engine.accelerate import with_engine
from aiida_e3relax.gnn.engine.cuda_graphs import ReplayedModel
from aiida_e3relax.gnn.prediction.freedom import PredictionFreedom
from aiida_e3relax.gnn.prediction.predict import Predictions, predict
from aiida_e3relax.gnn.prediction.report import structure_rows

if TYPE_CHECKING:
    from ase import Atoms

    from aiida_e3relax.gnn.prediction.refinement import SecondOpinion


class Predictor:
    """A model on its device, ready for crystals; threads that share one take turns.

    Attributes
    ----------
    checkpoint
        Where the model comes from, and the elements that it knows.
    device, dtype
        Where and in which precision it runs.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: torch.device,
        dtype: torch.dtype,
        engine: str,
        opinion: SecondOpinion | None = None,
    ):
        self.checkpoint, self.device, self.dtype = checkpoint, device, dtype
        self._model = with_engine(checkpoint.model, engine)
        self._replayed = ReplayedModel(self._model)
        self._opinion = opinion
        self._lock = threading.Lock()  # what the engine keeps is for one batch at a time

    def predict(
        self,
        crystals: Crystals,
        atoms: Sequence[Atoms | None],
        freedom: Freedom | None,
        max_edges: int,
        line: ProgressLine,
    ) -> tuple[Predictions, PredictionFreedom, list[dict[str, Any]]]:
        """Return the predictions for `crystals`, what was free to move in them, and their rows of the report.

        Parameters
        ----------
        crystals
            The input.
        atoms
            The same as ASE knows them, for their constraints; None where there are none.
        freedom
            What may move; by default atoms and cell, but for the cell around a vacuum.
        max_edges
            Edges in one batch of the network.
        line
            The progress of the run.
        """
        with self._lock:
            free = PredictionFreedom(freedom, crystals, atoms)
            result = predict(
                self._model,
                crystals,
                self.checkpoint.elements,
                self.device,
                self.dtype,
                max_edges,
                line,
                self._replayed,
                free,
            )
            opinions: dict[int, dict[str, Any]] = {}
            if self._opinion:
                start = time.perf_counter()
                sound = [index for index in range(len(crystals)) if index not in result.faults]
                result.crystals, opinions = self._opinion.consult(crystals, result.crystals, sound)
                result.seconds['second_opinion'] = time.perf_counter() - start
            result.crystals = free.restrict(result.crystals, result.faults)
            return result, free, structure_rows(crystals, result, opinions)
