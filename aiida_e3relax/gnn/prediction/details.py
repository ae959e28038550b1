"""What stands beside the predicted crystals of a run: structures after every layer, bonds, figures, candidates."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.common.output_files import check_output, writing
from aiida_e3relax.crystals.bonds import StatedBonds
from aiida_e3relax.crystals.files.details import (
    BondsWriter,
    CandidatesWriter,
    LayersWriter,
    bonds_path,
    candidates_path,
    layers_path,
)
from aiida_e3relax.crystals.files.labels import UniqueLabels
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.gnn.prediction.settings import PredictionSettings

if TYPE_CHECKING:
    from aiida_e3relax.gnn.prediction.predict import Predictions

MOST_FIGURES = 100
"""Figures of a run: those of its first structures."""


class DetailFiles:
    """The files beside `output` that `settings` ask for, as a context; they appear when the run ends well."""

    def __init__(self, output: Path, settings: PredictionSettings):
        self._stack = ExitStack()
        self._layers = self._bonds = self._candidates = None
        self._plot, self._drawn, self._names = settings.plot, 0, UniqueLabels()
        if settings.details.layers:
            self._layers = self._stack.enter_context(LayersWriter(layers_path(output)))
        if settings.details.bonds:
            self._bonds = self._stack.enter_context(BondsWriter(bonds_path(output)))
        if settings.potential is not None and settings.potential.candidates:
            self._candidates = self._stack.enter_context(CandidatesWriter(candidates_path(output)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def write(self, given: Crystals, result: Predictions, movable: Sequence[NDArray[np.bool_] | None]) -> None:
        """Add what was predicted for the crystals `given`; `movable` is that of `AseWriter.write`."""
        predicted = [index for index in range(len(given)) if index not in result.faults]
        if self._layers is not None and result.layers is not None:
            whole = [index for index in predicted if index not in result.broken_layers]
            steps = [step.select(whole) for step in (given, *result.layers, result.crystals)]
            self._layers.write(steps, [movable[index] for index in whole])
        if self._bonds is not None and result.bonds is not None:
            self._bonds.write(given.select(predicted), [result.bonds[index] for index in predicted])
            if self._plot is not None:
                self._draw(self._plot, result.crystals, result.bonds, predicted)
        if self._candidates is not None and result.candidates is not None:
            for index in sorted(result.candidates.keys() & set(predicted)):
                found = result.candidates[index]
                self._candidates.write(found.crystals, found.energies, found.unperturbed, movable[index])

    def _draw(self, folder: Path, crystals: Crystals, bonds: Mapping[int, StatedBonds], predicted: list[int]) -> None:
        """Draw the bonds of structures, as long as there are few figures."""
        from aiida_e3relax.gnn.prediction.plot import plot_bonds

        for index in predicted[: MOST_FIGURES - self._drawn]:
            crystal = crystals.select([index])
            name = re.sub(r'[^\w.+-]+', '_', str(crystal.labels[0])).strip('_.')[:100] or 'structure'
            with writing(folder):
                folder.mkdir(exist_ok=True)
                plot_bonds(bonds[index], crystal, folder / f'{self._names.claim(name)}.png')
            self._drawn += 1

    def close(self) -> None:
        """Put the files under their names."""
        for writer in (self._layers, self._bonds, self._candidates):
            if writer is not None:
                writer.close()


def check_details(output: Path, settings: PredictionSettings, others: list[Path]) -> None:
    """Raise InputError for details that cannot be written beside `output` or would replace `others`; needs no torch."""
    if settings.details.layers:
        check_output(layers_path(output), '--layers', others)
    if settings.details.bonds:
        check_output(bonds_path(output), '--bonds', others)
    if settings.potential is not None and settings.potential.candidates:
        check_output(candidates_path(output), '--candidates', others)
    if settings.plot is not None:
        from aiida_e3relax.common.figures import check_figure

        if not settings.details.bonds:
            raise InputError(f'--plot {settings.plot}: expected --bonds beside it, which is what the figures show')
        if settings.plot.exists() and not settings.plot.is_dir():
            raise InputError(f'--plot {settings.plot}: expected a folder, found a file: name a new folder')
        check_figure(settings.plot.with_suffix('.png'))
