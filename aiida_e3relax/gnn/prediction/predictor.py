"""A loaded model that predicts for one batch of crystals after the other: behind files and behind Python alike."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from aiida_e3relax.common.progress import ProgressLine
from aiida_e3relax.crystals.freedom.freedom import Freedom
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.crystals.validation import has_sound_geometry
from aiida_e3relax.gnn.checkpoints.checkpoint import Checkpoint
from aiida_e3relax.gnn.engine.accelerate import with_engine
from aiida_e3relax.gnn.engine.cuda_graphs import ReplayedModel
from aiida_e3relax.gnn.prediction.freedom import PredictionFreedom
from aiida_e3relax.gnn.prediction.predict import Predictions, check_bonds, predict
from aiida_e3relax.gnn.prediction.report import structure_rows
from aiida_e3relax.gnn.prediction.settings import Details, PredictionSettings

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
        details: Details = PredictionSettings.details,
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
        details
            What to return beside the structures.

        Raises
        ------
        InputError
            Where bonds are asked for, and the model states none.
        """
        if details.bonds:
            check_bonds(self.checkpoint.model, self.checkpoint.architecture)
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
                details,
            )
            opinions: dict[int, dict[str, Any]] = {}
            if self._opinion:
                start, by_network = time.perf_counter(), result.crystals
                sound = [index for index in range(len(crystals)) if index not in result.faults]
                result.crystals, opinions = self._opinion.consult(crystals, result.crystals, sound)
                result.seconds['second_opinion'] = time.perf_counter() - start
                if result.layers is not None and self._opinion.steps:
                    result.layers.append(by_network)
            result.crystals = free.restrict(result.crystals, result.faults)
            _complete_details(result, free)
            return result, free, structure_rows(crystals, result, opinions)


def _complete_details(result: Predictions, free: PredictionFreedom) -> None:
    """Hold the layers of predictions to what may move, as the predictions are, and measure bonds in these."""
    faults = dict(result.faults)
    layers = result.layers or []
    for place, layer in enumerate(layers):
        unsound = {int(index): 'it is no crystal' for index in np.flatnonzero(~has_sound_geometry(layer))}
        held = free.restrict(layer, faults)
        found = unsound | {index: message for index, (_, message) in faults.items()}
        for index in sorted(found.keys() - result.faults.keys() - result.broken_layers.keys()):
            result.broken_layers[index] = f'no layers: after layer {place + 1}: {found[index]}'
        layers[place] = held
    result.bonds = result.bonds and {
        index: dataclasses.replace(bonds, final_length=bonds.lengths_in(result.crystals.select([index])))
        for index, bonds in result.bonds.items()
        if index not in result.faults
    }
