"""How benchmarks judge structures by pairs: held to what moved in each, in the aligned frame, with failures counted."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aiida_e3relax.common.progress import NoProgress, ProgressLine
from aiida_e3relax.crystals.freedom.words import Moves
from aiida_e3relax.crystals.metrics import bond_length_mae, cell_shape_deviation, coordinate_mae, volume_error
from aiida_e3relax.crystals.pairs import Pairs, aligned
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.gnn.checkpoints.checkpoint import Checkpoint
from aiida_e3relax.gnn.distillation.teacher import Teacher, predict_freely
from aiida_e3relax.gnn.evaluation.evaluate import bonds_of
from aiida_e3relax.gnn.prediction.predictor import Predictor
from aiida_e3relax.gnn.prediction.settings import ENGINES, PotentialSettings

MEASURES = ('coordinates A', 'bonds A', 'shape A^2', 'volume A^3')


def with_moves(pairs: Pairs) -> Pairs:
    """Return pairs that all say what moves: where they do not, the atoms, and the cell unless it is fixed."""
    fixed = np.zeros(len(pairs), dtype=bool) if pairs.fixed_cell is None else pairs.fixed_cell
    told = pairs.about.get('moves', np.full(len(pairs), ''))
    moves = np.where(told == '', np.where(fixed, Moves.POSITIONS.value, Moves.CELL.value), told)
    return dataclasses.replace(pairs, about={**pairs.about, 'moves': moves})


def network(checkpoint: Checkpoint, pairs: Pairs, device: torch.device) -> tuple[Crystals, list[dict[str, Any]]]:
    """Return what a checkpoint predicts of the unrelaxed crystals, held to what moves in each, and what it states."""
    predictor = Predictor(checkpoint, device, torch.float32, ENGINES[0], None)
    predicted, rows = predict_freely(predictor, with_moves(pairs), NoProgress())
    return predicted.relaxed, rows


def relax_by(name: str, judges: Pairs, device: torch.device) -> dict[str, Any]:
    """Return the errors of a relaxation by a potential from the unrelaxed crystals, and what it took."""
    teacher = Teacher.load(PotentialSettings(name, start='input'), Path(), device)
    line, start = ProgressLine(name, len(judges)), time.process_time()
    relaxed, rows = teacher.relax(with_moves(judges), line)
    line.close()
    return {'CPU s': time.process_time() - start, 'judged': judged(judges, relaxed.relaxed, rows)}


def judged(pairs: Pairs, candidates: Crystals, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the errors, and how many crystals failed, which count as they began, and how many did not converge."""
    failed = [row['status'] != 'ok' or 'error' in row.get('potential', {}) for row in rows]
    converged = [row.get('potential', {}).get('converged', True) for row in rows]
    unconverged = sum(not done and not fault for done, fault in zip(converged, failed, strict=True))
    return {**errors(pairs, candidates), 'failed': sum(failed), 'not converged': unconverged}


def errors_of_each(pairs: Pairs, candidates: Crystals) -> dict[str, NDArray[np.float64]]:
    """Return the errors ``(S,)`` by measure against the relaxed crystals, in the aligned frame."""
    target, candidates = pairs.centred(aligned(pairs).relaxed), pairs.centred(candidates)
    found = (
        coordinate_mae(candidates, target),
        bond_length_mae(candidates, target, bonds_of(pairs.unrelaxed)),
        cell_shape_deviation(candidates, target),
        volume_error(candidates, target),
    )
    return dict(zip(MEASURES, found, strict=True))


def errors(pairs: Pairs, candidates: Crystals) -> dict[str, list[float]]:
    """Return mean and median of each measure; a crystal without bonds counts in the others alone."""
    found = errors_of_each(pairs, candidates)
    return {name: [float(np.nanmean(values)), float(np.nanmedian(values))] for name, values in found.items()}


def kept(path: Path, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what the file has, or compute it and keep it there."""
    if not path.is_file():
        unfinished = path.with_suffix('.part')
        unfinished.write_text(json.dumps(compute(), indent=1), encoding='utf-8')
        unfinished.replace(path)
    return json.loads(path.read_text(encoding='utf-8'))
