"""Crystals scaled to the volume that their bonds should have: a pre-relaxer without a model and at no cost."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from aiida_e3relax.common.progress import ProgressLine
from aiida_e3relax.crystals.freedom.freedom import Freedom
from aiida_e3relax.crystals.structures import Crystals, pymatgen_structure
from aiida_e3relax.crystals.validation import CrystalFault
from aiida_e3relax.gnn.potentials.base import KnownPotential
from aiida_e3relax.gnn.prediction.freedom import PredictionFreedom
from aiida_e3relax.gnn.prediction.settings import SCALED_BY, PotentialSettings


class VolumeScaling:
    """Scales crystals to the volume that `DLSVolumePredictor` of pymatgen predicts, in the place of a `PreRelaxation`.

    It takes bond lengths from data-mined radii and the spread of the electronegativities (Chu et al., Comput. Mater.
    Sci. 146, 184 (2018)), and changes a volume by half at most. Fractional coordinates stay.
    """

    key = 'potential'

    def __init__(self, known: KnownPotential, settings: PotentialSettings):
        self._known = known
        self.settings = dataclasses.replace(settings, steps=0, candidates=0)
        from pymatgen.analysis.structure_prediction.volume_predictor import DLSVolumePredictor

        self._predictor = DLSVolumePredictor()

    @property
    def name(self) -> str:
        """How it is asked for."""
        return self._known.name

    def facts(self) -> dict[str, Any]:
        """Return its entry in the report of a run."""
        known, settings = self._known, self.settings
        facts = {'potential': known.name, 'version': version(known.package), 'licence': known.licence}
        return facts | {'training_data': known.training_data, 'start': settings.start, 'steps': settings.steps}

    def relax(
        self, given: Crystals, starts: Crystals, indices: Sequence[int], free: PredictionFreedom, line: ProgressLine
    ) -> tuple[Crystals, dict[int, dict[str, Any]], dict[int, CrystalFault]]:
        """Return `starts` with the crystals at `indices` scaled, the rows of the report by index, and the failures.

        The row of one that was scaled has its `volume_ratio`, to the volume before; arguments and what is returned are
        those of `PreRelaxation.relax`.
        """
        volumes, rows = np.abs(starts.volumes), {}
        failures: dict[int, CrystalFault] = {}
        for index in indices:
            begin = time.perf_counter()
            row: dict[str, Any] = {}
            try:
                row['volume_ratio'] = self._predict_ratio(starts.select([index]), free.of(index))
                volumes[index] *= row['volume_ratio']
            except ValueError as error:
                row['error'] = str(error)
                failures[index] = 'potential_failed', f'{self.name} cannot scale it: {error}'
            rows[index] = row | {'wall_time_s': time.perf_counter() - begin}
            line.advance()
        return starts.scaled_to(volumes), rows, failures

    def _predict_ratio(self, crystal: Crystals, freedom: Freedom) -> float:
        """Return the volume that is predicted of one crystal over the volume that it has.

        Raises ValueError where its volume may not change alike in all directions, and where pymatgen predicts none: for
        want of an atomic radius or of neighbours.
        """
        if freedom.moves not in SCALED_BY:
            raise ValueError(f'the freedom `{freedom.moves}` does not let its cell grow alike in all directions')
        structure = pymatgen_structure(crystal, 0)
        if unknown := [str(element) for element in structure.composition if not element.atomic_radius]:
            raise ValueError(f'pymatgen knows no atomic radius of {", ".join(unknown)}')
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # where it takes the radius, as no bond lengths were mined
            ratio = self._predictor.predict(structure) / structure.volume
        if not np.isfinite(ratio):
            raise ValueError(f'pymatgen predicts no volume of {structure.composition.reduced_formula}: found {ratio}')
        return float(ratio)
