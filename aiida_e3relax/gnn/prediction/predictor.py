"""A loaded model, or potential, that relaxes one batch of crystals after the other, for files and for Python alike."""

from __future__ import annotations

import dataclasses
import importlib.util
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from aiida_e3relax.common.errors import InputError, MissingPackageError
from aiida_e3relax.common.progress import NoProgress, ProgressLine
from aiida_e3relax.crystals.freedom.freedom import Freedom
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.crystals.validation import has_sound_geometry
from aiida_e3relax.gnn.checkpoints.checkpoint import Checkpoint
from aiida_e3relax.gnn.engine.accelerate import with_engine
from aiida_e3relax.gnn.engine.cuda_graphs import ReplayedModel
from aiida_e3relax.gnn.potentials.registry import (
    DLS_VOLUME,
    POTENTIALS,
    PRE_RELAXERS,
    REMEDY,
    check_choices,
    load_potential,
)
from aiida_e3relax.gnn.prediction.fixed_sites import FixedSites
from aiida_e3relax.gnn.prediction.freedom import PredictionFreedom
from aiida_e3relax.gnn.prediction.predict import Predictions, check_bonds, predict, without_network
from aiida_e3relax.gnn.prediction.report import structure_rows
from aiida_e3relax.gnn.prediction.settings import Details, PotentialSettings, PredictionSettings
from aiida_e3relax.gnn.prediction.symmetry import SymmetryRestoration
from aiida_e3relax.gnn.prediction.volume import VolumeScaling

if TYPE_CHECKING:
    from ase import Atoms

    from aiida_e3relax.gnn.prediction.pre_relaxation import PreRelaxation


def load_pre_relaxation(
    settings: PotentialSettings | None,
    device: torch.device,
    dtype: str,
    is_opinion: bool = False,
    is_compiled: bool = False,
) -> PreRelaxation | None:
    """Return the potential that `settings` ask for, None where they ask for none; raises what `load_potential` does.

    One that does not compute in `dtype`, which the network may, takes its own precision; the report states it.
    """
    if settings is None:
        return None
    if settings.name in POTENTIALS:
        dtype = POTENTIALS[settings.name].nearest_dtype(dtype)
    potential = load_potential(settings.name, device, dtype, settings.weights, settings.in_batches, is_compiled)
    try:
        import spglib  # noqa: F401 (what keeps the symmetry; it comes with some potentials alone)
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f'relaxing by {settings.name} needs the package spglib, which is not installed; {REMEDY.format("spglib")}'
        ) from error
    from aiida_e3relax.gnn.prediction.pre_relaxation import PreRelaxation  # needs ASE, which comes with the potential

    return PreRelaxation(potential, settings, is_opinion)


def load_pre_relaxer(
    settings: PotentialSettings | None, device: torch.device, dtype: str, is_opinion: bool = False
) -> PreRelaxation | VolumeScaling | None:
    """Return what `settings` ask for, a potential or a scaling; raises as `load_pre_relaxation`."""
    if settings is None or settings.name != DLS_VOLUME:
        return load_pre_relaxation(settings, device, dtype, is_opinion)
    known = PRE_RELAXERS[DLS_VOLUME]
    check_choices(known, weights=settings.weights)
    if importlib.util.find_spec(known.package) is None:
        raise MissingPackageError(f'{known.name} needs the package pymatgen; {REMEDY.format(known.package)}')
    return VolumeScaling(known, settings)


def check_details_of(checkpoint: Checkpoint | None, details: Details) -> None:
    """Raise InputError for details that a model, or a potential without one, does not have."""
    if checkpoint is None and details != Details():
        raise InputError(
            'layers and bonds are those of a network, and none is loaded where the potential starts from the input: '
            'leave them out, or start from the network'
        )
    if checkpoint is not None and details.bonds:
        check_bonds(checkpoint.model, checkpoint.architecture)


class Predictor:
    """A model on its device, a potential, or one after the other, ready for crystals; threads take turns with it.

    Attributes
    ----------
    checkpoint
        Where the model comes from, and the elements that it knows; None where a potential relaxes the input.
    device, dtype
        Where and in which precision it runs.
    symmetry
        What becomes of the symmetry that rounding hides.
    max_edges_fitted
        The bound on the edges of a batch after memory ran out, which later ones begin with; None where it did not.
    """

    def __init__(
        self,
        checkpoint: Checkpoint | None,
        device: torch.device,
        dtype: torch.dtype,
        engine: str,
        relaxation: PreRelaxation | VolumeScaling | None = None,
        restores_symmetry: bool = False,
    ):
        self.checkpoint, self.device, self.dtype = checkpoint, device, dtype
        self.max_edges_fitted: int | None = None
        self._replayed = (
            ReplayedModel(with_engine(checkpoint.model, engine), with_features=checkpoint.reference is not None)
            if checkpoint
            else None
        )
        self._relaxation = relaxation
        self.symmetry = SymmetryRestoration.of(checkpoint.model if checkpoint else None, dtype, restores_symmetry)
        self._lock = threading.Lock()  # what the engine keeps is for one batch at a time

    def predict(
        self,
        crystals: Crystals,
        atoms: Sequence[Atoms | None],
        freedom: Freedom | None,
        max_edges: int,
        line: ProgressLine,
        details: Details = PredictionSettings.details,
        fixed: FixedSites | None = None,
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
        fixed
            Sites that are held beside those of `atoms`.

        Raises
        ------
        InputError
            Where details are asked for that there are not: bonds of a model that states none, or without a model. And
            where candidates are that `freedom` leaves none of.
        """
        check_details_of(self.checkpoint, details)
        if self._relaxation:
            self._relaxation.settings.check_freedom(freedom)
        with self._lock:
            free = PredictionFreedom(freedom, crystals, atoms, fixed)
            result = self._predict(crystals, free, max_edges, line, details)
            self.symmetry.restore(crystals, result, free)
            told, key = {}, 'potential'
            if self._relaxation:
                key = self._relaxation.key
                told = self._relax(crystals, result, free, line)
            result.crystals = free.restrict(result.crystals, result.faults)
            _complete_details(result, free)
            return result, free, structure_rows(crystals, result, told, key)

    def _predict(
        self, crystals: Crystals, free: PredictionFreedom, max_edges: int, line: ProgressLine, details: Details
    ) -> Predictions:
        """Return what the network predicts, or without one the input."""
        if self._replayed is None or self.checkpoint is None:
            result = without_network(crystals, self.device, free)
            line.advance(len(result.faults))
            return result
        result = predict(
            self._replayed.model,
            crystals,
            self.checkpoint.elements,
            self.device,
            self.dtype,
            min(max_edges, self.max_edges_fitted or max_edges),
            line,
            self._replayed,
            free,
            details,
            reference=self.checkpoint.reference,
        )
        self.max_edges_fitted = result.max_edges_fitted or self.max_edges_fitted
        return result

    def _relax(
        self, crystals: Crystals, result: Predictions, free: PredictionFreedom, line: ProgressLine
    ) -> dict[int, dict[str, Any]]:
        """Let the potential relax `result`, in its place, and return what it says of each structure."""
        assert self._relaxation is not None
        relaxation, start = self._relaxation, time.perf_counter()
        starts = free.restrict(result.crystals, result.faults)
        sound = [index for index in range(len(crystals)) if index not in result.faults]
        own_line = self._replayed is not None and not isinstance(line, NoProgress)
        if self._replayed is not None:
            line = ProgressLine(f'relaxing by {relaxation.name}', len(sound)) if own_line else NoProgress()
        result.crystals, told, failures = relaxation.relax(crystals, starts, sound, free, line)
        if own_line:
            line.close()
        if relaxation.settings.candidates and not isinstance(relaxation, VolumeScaling):
            self._find_candidates(relaxation, result, starts, told, free, isinstance(line, NoProgress))
        result.seconds[relaxation.key] = time.perf_counter() - start
        if self._replayed is None:
            result.faults |= failures
        elif result.layers is not None and relaxation.settings.steps:
            result.layers.append(starts)
        return told

    def _find_candidates(
        self,
        relaxation: PreRelaxation,
        result: Predictions,
        starts: Crystals,
        told: dict[int, dict[str, Any]],
        free: PredictionFreedom,
        is_silent: bool,
    ) -> None:
        """Let the potential find candidates of a lower symmetry, and put them and the lowest ones into `result`."""
        from aiida_e3relax.gnn.prediction.candidates import find_candidates

        total = relaxation.settings.candidates * sum('error' not in row for row in told.values())
        line = NoProgress() if is_silent else ProgressLine(f'candidates by {relaxation.name}', total)
        result.crystals, result.candidates = find_candidates(relaxation, starts, result.crystals, told, free, line)
        line.close()


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
