"""How benchmarks judge structures by pairs: held to what moved in each, in the aligned frame, with failures counted."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.common.progress import NoProgress, ProgressLine
from aiida_e3relax.common.strict_json import finite
from aiida_e3relax.crystals.datasets.pairs_file import pairs_hash, read_data_card, read_pairs, write_pairs
from aiida_e3relax.crystals.freedom.pairs import find_moves
from aiida_e3relax.crystals.freedom.words import Moves
from aiida_e3relax.crystals.metrics import bond_length_mae, cell_shape_deviation, coordinate_mae, volume_error
from aiida_e3relax.crystals.pairs import Pairs, aligned
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.gnn.checkpoints.checkpoint import Checkpoint
from aiida_e3relax.gnn.distillation.teacher import Teacher, predict_freely
from aiida_e3relax.gnn.evaluation.evaluate import bonds_of
from aiida_e3relax.gnn.prediction.predictor import Predictor
from aiida_e3relax.gnn.prediction.settings import ENGINES, PotentialSettings

CHUNK = 20
"""Crystals that are relaxed before they are written."""

MEASURES = ('coordinates A', 'bonds A', 'shape A^2', 'volume A^3')


def with_moves(pairs: Pairs) -> Pairs:
    """Return pairs that all say what moves: where they do not, the atoms, and the cell unless it is fixed."""
    return dataclasses.replace(pairs, about={**pairs.about, 'moves': find_moves(pairs)})


def check_judges(potentials: Sequence[str], *judges: Pairs) -> None:
    """Raise InputError where a potential would judge by its own relaxations, and where none can repeat one.

    The first of `judges` are those that potentials relax.
    """
    taught = {word.split()[0] for word in judges[0].about.get('teacher', np.array([])).tolist() if word}
    if own := sorted(taught & set(potentials)):
        raise InputError(
            f'--potentials: {", ".join(own)} relaxed the pairs that judge, and has no error there: give '
            f'`{" ".join(["--potentials", *(name for name in potentials if name not in taught)])}`'
        )
    for pairs in judges:
        words = set(with_moves(pairs).about['moves'].tolist())
        if unknown := sorted(words - {choice.value for choice in Moves}):
            raise InputError(f'pairs that relaxed with `{unknown[0]}` cannot be repeated: leave them out of the files')


def network(checkpoint: Checkpoint, pairs: Pairs, device: torch.device) -> tuple[Crystals, list[dict[str, Any]]]:
    """Return what a checkpoint predicts of the unrelaxed crystals, held to what moves in each, and what it states."""
    predictor = Predictor(checkpoint, device, torch.float32, ENGINES[0], None)
    predicted, rows = predict_freely(predictor, with_moves(pairs), NoProgress())
    return predicted.relaxed, rows


def relaxations(
    pairs: Pairs, name: str, folder: Path, device: torch.device
) -> tuple[Crystals, list[dict[str, Any]], float]:
    """Return where a potential leads from the unrelaxed crystals, what it says of each, and the CPU seconds.

    They are kept in `folder`, some at a time, and read where the same potential has relaxed the same crystals in the
    same way, on as many threads of the same kind of device.
    """
    teacher = Teacher.load(PotentialSettings(name, start='input'), Path(), device)
    how = json.dumps([teacher.facts, device.type, torch.get_num_threads()], sort_keys=True, default=str)
    ends, rows, seconds = [], [], 0.0
    line = ProgressLine(name, len(pairs))
    for first in range(0, len(pairs), CHUNK):
        part = with_moves(pairs.select(np.arange(first, min(first + CHUNK, len(pairs)))))
        key = hashlib.sha256(f'{pairs_hash(part)} {how}'.encode()).hexdigest()
        path = folder / f'{name}-{key[:16]}.npz'
        if not path.is_file():
            start = time.process_time()
            relaxed, told = teacher.relax(part)
            write_pairs(path, relaxed, {'rows': finite(told), 'CPU s': time.process_time() - start})
        card = read_data_card(path) or {}
        ends.append(read_pairs(path).relaxed)
        rows += card['rows']
        seconds += card['CPU s']
        line.advance(len(part))
    line.close()
    return Crystals.concatenate(ends), rows, seconds


def judged(pairs: Pairs, candidates: Crystals, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the errors, and how many crystals failed, which count as they began, and how many did not converge."""
    failed = [row['status'] != 'ok' or 'error' in row.get('potential', {}) for row in rows]
    converged = [row.get('potential', {}).get('converged', True) for row in rows]
    unconverged = sum(not done and not fault for done, fault in zip(converged, failed, strict=True))
    return {**errors(pairs, candidates), 'failed': sum(failed), 'not converged': unconverged}


def errors(pairs: Pairs, candidates: Crystals) -> dict[str, list[float]]:
    """Return mean and median of each measure against the relaxed crystals, see `errors_of_each`.

    A crystal without bonds counts in the other measures alone.
    """
    found = errors_of_each(pairs, candidates)
    return {name: [float(np.nanmean(values)), float(np.nanmedian(values))] for name, values in found.items()}


def errors_of_each(pairs: Pairs, candidates: Crystals) -> dict[str, NDArray[np.float64]]:
    """Return each measure ``(S,)`` against the relaxed crystals, in the aligned frame; NaN for bonds where none are."""
    target, candidates = pairs.centred(aligned(pairs).relaxed), pairs.centred(candidates)
    found = (
        coordinate_mae(candidates, target),
        bond_length_mae(candidates, target, bonds_of(pairs.unrelaxed)),
        cell_shape_deviation(candidates, target),
        volume_error(candidates, target),
    )
    return dict(zip(MEASURES, found, strict=True))


def kept(path: Path, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what the file has, or compute it and keep it there."""
    if not path.is_file():
        unfinished = path.with_suffix('.part')
        unfinished.write_text(json.dumps(compute(), indent=1), encoding='utf-8')
        unfinished.replace(path)
    return json.loads(path.read_text(encoding='utf-8'))
