"""The papers' table of a model on a split, beside the Dummy that returns its input."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch

from aiida_e3relax.gnn.checkpoint import Checkpoint
from aiida_e3relax.gnn.datasets import Pairs, aligned
from aiida_e3relax.gnn.metrics import cell_shape_deviation, coordinate_mae, matches, volume_error
from aiida_e3relax.gnn.predict import predict
from aiida_e3relax.gnn.structures import Crystals

MEASURES = {
    'coordinate_mae_A': coordinate_mae,
    'cell_shape_deviation_A2': cell_shape_deviation,
    'volume_mae_A3': volume_error,
}


def evaluate(
    checkpoint: Checkpoint, pairs: Pairs, device: torch.device, with_matches: bool = True
) -> list[dict[str, Any]]:
    """Return rows of means and medians over `pairs`, for each data set, frame, and for the model and the Dummy.

    The frame ``as filed`` takes the targets as they are, which is the papers' way, and turns the predictions like them
    (see `as_filed`); ``aligned`` takes rotation and drift out of the target (see `aligned`) and gives both crystals the
    mean position of the input. Structures that the model refuses count with their input geometry.
    """
    rows = []
    for source in np.unique(pairs.source):
        chosen = pairs.select(np.flatnonzero(pairs.source == source))
        result = predict(checkpoint.model, chosen.unrelaxed, checkpoint.elements, device)
        candidates = {'model': result.crystals, 'dummy': chosen.unrelaxed}
        matched = {name: matches(c, chosen.relaxed) for name, c in candidates.items()} if with_matches else {}
        centred = functools.partial(Crystals.with_centroids_of, other=chosen.unrelaxed)
        for frame, target in (('as filed', chosen.relaxed), ('aligned', centred(aligned(chosen).relaxed))):
            for name, candidate in candidates.items():
                row = {'data': str(source), 'frame': frame, 'of': name, 'pairs': len(chosen)}
                in_frame = as_filed(candidate, chosen) if frame == 'as filed' else centred(candidate)
                row |= _means_and_medians(in_frame, target)
                row['failed'] = len(result.faults) if name == 'model' else 0
                if with_matches:
                    row['match_rate_percent'] = float(100 * matched[name].mean())
                rows.append(row)
    return rows


def as_filed(predicted: Crystals, pairs: Pairs) -> Crystals:
    """Return predictions turned to the orientation in which the files of `pairs` write a cell.

    Where the target's cell was written from lattice parameters (a along x, b in the xy plane), so is the predicted one;
    else it stays in the frame of the input.
    """
    upper = np.abs(pairs.relaxed.cell[:, *np.triu_indices(3, 1)]).max(axis=1)
    standard = np.linalg.cholesky(predicted.cell @ np.swapaxes(predicted.cell, 1, 2))
    cell = np.where((upper < 1e-6)[:, None, None], standard, predicted.cell)
    positions = np.einsum('ac,acx->ax', predicted.fractional(), cell[predicted.structure_index])
    return predicted.replace(positions, cell)


def _means_and_medians(candidate: Crystals, target: Crystals) -> dict[str, float]:
    values = {name: measure(candidate, target) for name, measure in MEASURES.items()}
    means = {f'{name}_mean': float(value.mean()) for name, value in values.items()}
    return means | {f'{name}_median': float(np.median(value)) for name, value in values.items()}


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as text: mean (median) of each measure."""
    lines = [
        f'{"data":<14}{"frame":<10}{"":<7}{"pairs":>6}  {"coordinates A":>17}  {"cell shape A^2":>17}  '
        f'{"volume A^3":>17}  {"match %":>8}'
    ]
    for row in rows:
        cells = [f'{row[f"{m}_mean"]:9.3f} ({row[f"{m}_median"]:.3f})' for m in MEASURES]
        match = f'{row["match_rate_percent"]:8.1f}' if 'match_rate_percent' in row else f'{"-":>8}'
        lines.append(
            f'{row["data"]:<14}{row["frame"]:<10}{row["of"]:<7}{row["pairs"]:>6}  '
            + '  '.join(f'{c:>17}' for c in cells)
            + f'  {match}'
        )
    return '\n'.join([*lines, 'mean (median) over pairs; dummy: the unrelaxed crystal itself'])
