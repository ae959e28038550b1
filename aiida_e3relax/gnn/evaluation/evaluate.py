"""The papers' measures of models on pairs, structure by structure, beside the Dummy that returns its input."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aiida_e3relax.crystals.freedom.pairs import hold, scaled
from aiida_e3relax.crystals.metrics import (
    Bonds,
    bond_length_mae,
    cell_shape_deviation,
    coordinate_errors,
    coordinate_mae,
    lattice_mae,
    matches,
    movable_coordinate_mae,
    volume_error,
)
from aiida_e3relax.crystals.pairs import Pairs, aligned
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.gnn.checkpoints.checkpoint import Checkpoint
from aiida_e3relax.gnn.engine.accelerate import accelerate
from aiida_e3relax.gnn.evaluation.calibration import Calibration, distance_row
from aiida_e3relax.gnn.graph.bonds import find_bonds
from aiida_e3relax.gnn.prediction.freedom import find_pairs
from aiida_e3relax.gnn.prediction.predict import predict

MEASURES = ('coordinate_mae_A', 'cell_shape_deviation_A2', 'volume_mae_A3')
"""The measures of every table; `ALL_MEASURES` adds DeepRelax's two."""

ALL_MEASURES = (*MEASURES, 'bond_length_mae_A', 'lattice_mae_A')

MOVABLE = 'movable_coordinate_mae_A'
"""The coordinates' error of atoms that may move, where some of a data set are fixed."""

GROUPS = ('kind', 'family')
"""Of the texts `about` pairs, those by which errors are averaged, too."""

FRAMES = ('as filed', 'aligned')
DUMMY = 'dummy'


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was measured of one model, or the Dummy, on S structures of one data set in one frame.

    Attributes
    ----------
    data, frame, of
        Data set, `FRAMES` entry, and name of the model.
    labels, n_atoms
        ``(S,)`` names and sizes of the structures.
    values
        ``(S,)`` per entry of `ALL_MEASURES`, and of `MOVABLE` where atoms are fixed.
    numbers, atom_errors
        ``(A,)`` atomic numbers, and the coordinate error of each atom in A.
    failed
        ``(S,)`` structures that the model refused; they count with their input geometry.
    matched
        ``(S,)`` whether StructureMatcher maps the prediction on the relaxed crystal; None where it was not asked.
    uncertainty
        ``(S,)`` uncertainty that the model states, in A, NaN where it refused; None where it states none.
    distance
        ``(S,)`` distance to the crystals of the training, NaN where it refused; None where the model states none.
    groups
        ``(S,)`` what each structure belongs to, for each of `GROUPS` that the pairs tell of.
    """

    data: str
    frame: str
    of: str
    labels: NDArray[np.str_]
    n_atoms: NDArray[np.int64]
    values: dict[str, NDArray[np.float64]]
    numbers: NDArray[np.int64]
    atom_errors: NDArray[np.float64]
    failed: NDArray[np.bool_]
    matched: NDArray[np.bool_] | None
    uncertainty: NDArray[np.float64] | None
    distance: NDArray[np.float64] | None = None
    groups: Mapping[str, NDArray[np.str_]] = dataclasses.field(default_factory=dict)

    @property
    def calibration(self) -> Calibration | None:
        """The stated uncertainty against the errors, if there is one."""
        return self.calibration_of(np.ones(len(self.labels), dtype=bool))

    def calibration_of(self, chosen: NDArray[np.bool_]) -> Calibration | None:
        """Return `calibration` of the `chosen` structures ``(S,)``."""
        if self.uncertainty is None:
            return None
        errors = self.values['bond_length_mae_A'][chosen], self.values['coordinate_mae_A'][chosen]
        distance = None if self.distance is None else self.distance[chosen]
        return Calibration.of(self.uncertainty[chosen], *errors, distance)

    def row(self) -> dict[str, Any]:
        """Return means and medians over the structures, and what can be said of a stated uncertainty."""
        row: dict[str, Any] = {'data': self.data, 'frame': self.frame, 'of': self.of, 'pairs': len(self.labels)}
        for name, values in self.values.items():
            row |= {f'{name}_mean': float(np.nanmean(values)), f'{name}_median': float(np.nanmedian(values))}
        row['failed'] = int(self.failed.sum())
        if self.matched is not None:
            row['match_rate_percent'] = float(100 * self.matched.mean())
        if self.calibration is not None:
            row |= self.calibration.row()
        elif self.distance is not None:
            row |= distance_row(self.distance, self.values['bond_length_mae_A'])
        return row


def evaluate(
    checkpoint: Checkpoint, pairs: Pairs, device: torch.device, with_matches: bool = True
) -> list[dict[str, Any]]:
    """Return the rows of means and medians of one model; see `measure`."""
    return [measured.row() for measured in measure({'model': checkpoint}, pairs, device, with_matches)]


def measure(
    models: Mapping[str, Checkpoint],
    pairs: Pairs,
    device: torch.device,
    with_matches: bool = True,
    with_dummy: bool = True,
) -> list[Measured]:
    """Return what is measured of each model, and of what costs nothing, for each data set and frame.

    The frame ``as filed`` takes the targets as they are, which is the papers' way, and turns the predictions like them
    (see `as_filed`); ``aligned`` takes rotation and drift out of the target (see `aligned`) and gives both crystals the
    mean position of the input, or that of its fixed atoms; models hold what the pairs say is fixed, and of a layer's
    cell they move what the pair's relaxation did (see `hold`). Beside each model stand the Dummy, which is the input,
    and the input scaled to the volume that the model predicts. Structures that a model refuses count with their input
    geometry.

    Parameters
    ----------
    models
        Checkpoints by the name that tables use; their models run on the fast engine from then on.
    pairs
        The pairs to measure on.
    device
        Where the models run.
    with_matches
        Ask StructureMatcher, too: it takes longer than all the rest.
    with_dummy
        False leaves out what costs nothing.
    """
    return [
        measured
        for source in np.unique(pairs.source)
        for measured in _measure_source(
            str(source), models, pairs.select(np.flatnonzero(pairs.source == source)), device, with_matches, with_dummy
        )
    ]


def _measure_source(
    source: str,
    models: Mapping[str, Checkpoint],
    pairs: Pairs,
    device: torch.device,
    with_matches: bool,
    with_dummy: bool,
) -> list[Measured]:
    unrelaxed = pairs.unrelaxed
    candidates: dict[str, Crystals] = {}
    rescaled: dict[str, Crystals] = {}
    failed, uncertainty, distance = {}, {}, {}
    for name, checkpoint in models.items():
        result = predict(
            accelerate(checkpoint.model),
            unrelaxed,
            checkpoint.elements,
            device,
            fixed=(pairs.fixed, pairs.fixed_cell),
            reference=checkpoint.reference,
        )
        candidates[name], unheld = hold(result.crystals, pairs, list(result.faults), find_pairs)
        uncertainty[name], distance[name] = result.uncertainty, result.distance
        failed[name] = np.isin(np.arange(len(pairs)), [*result.faults, *unheld])
        rescaled[f'{DUMMY} at volume of {name}'] = scaled(pairs, candidates[name].volumes)
    if with_dummy:
        candidates[DUMMY] = unrelaxed
    matched = {name: matches(c, pairs.as_filed) if with_matches else None for name, c in candidates.items()}
    if with_dummy:
        matched |= dict.fromkeys(rescaled, matched[DUMMY])  # StructureMatcher scales volumes away
        candidates |= rescaled
    target, bonds = pairs.centred(aligned(pairs).relaxed), bonds_of(unrelaxed)
    nothing_failed = np.zeros(len(pairs), dtype=bool)
    measured = []
    for name, candidate in candidates.items():
        in_frames = {
            'as filed': (as_filed(candidate, pairs), pairs.as_filed),
            'aligned': (pairs.centred(candidate), target),
        }
        lengths = bond_length_mae(candidate, target, bonds)
        for frame, (predicted, relaxed) in in_frames.items():
            values = {
                'coordinate_mae_A': coordinate_mae(predicted, relaxed),
                'cell_shape_deviation_A2': cell_shape_deviation(predicted, relaxed),
                'volume_mae_A3': volume_error(predicted, relaxed),
                'bond_length_mae_A': lengths,
                'lattice_mae_A': lattice_mae(predicted, relaxed),
            }
            if pairs.fixed is not None and not pairs.fixed.all():
                values[MOVABLE] = movable_coordinate_mae(predicted, relaxed, pairs.fixed)
            measured.append(
                Measured(
                    source,
                    frame,
                    name,
                    unrelaxed.labels,
                    unrelaxed.n_atoms,
                    values,
                    unrelaxed.numbers,
                    coordinate_errors(predicted, relaxed),
                    failed.get(name, nothing_failed),
                    matched[name],
                    uncertainty.get(name),
                    distance.get(name),
                    {group: pairs.about[group] for group in GROUPS if group in pairs.about},
                )
            )
    return sorted(measured, key=lambda m: FRAMES.index(m.frame))


def as_filed(predicted: Crystals, pairs: Pairs) -> Crystals:
    """Return predictions turned to the orientation in which the files of `pairs` write a cell.

    Where the target's cell was written from lattice parameters (a along x or -x, b in the xy plane), so is the
    predicted one; else it stays in the frame of the input.
    """
    upper = np.abs(pairs.as_filed.cell[:, *np.triu_indices(3, 1)]).max(axis=1)
    standard = np.linalg.cholesky(predicted.cell @ np.swapaxes(predicted.cell, 1, 2))
    standard *= np.sign(np.diagonal(pairs.as_filed.cell, axis1=1, axis2=2))[:, None]
    cell = np.where((upper < 1e-6)[:, None, None], standard, predicted.cell)
    positions = np.einsum('ac,acx->ax', predicted.fractional(), cell[predicted.structure_index])
    return predicted.replace(positions, cell)


def bonds_of(crystals: Crystals) -> Bonds:
    """Return the bonds of unrelaxed crystals whose lengths are measured."""
    graph = find_bonds(crystals)
    return Bonds(graph.centre.numpy(), graph.neighbour.numpy(), graph.offset.numpy())
