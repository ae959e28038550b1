"""Crystals of files, of any number: read, predicted and written in pieces."""

from __future__ import annotations

import dataclasses
import itertools
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aiida_e3relax.common.errors import InputError, OutOfMemoryError
from aiida_e3relax.common.messages import printable
from aiida_e3relax.common.progress import ProgressLine
from aiida_e3relax.crystals.files.labels import UniqueLabels
from aiida_e3relax.crystals.files.stream import Piece, Unreadable, count_structures, stream_structures
from aiida_e3relax.crystals.files.writers import AseWriter, NpzWriter, open_writer
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.gnn.checkpoints.checkpoint import Checkpoint, load_checkpoint
from aiida_e3relax.gnn.device import DTYPES, choose_dtype, describe_device, prepare_device
from aiida_e3relax.gnn.prediction.details import DetailFiles
from aiida_e3relax.gnn.prediction.fixed_sites import FixedSites, describe_unknown, read_fixed_sites
from aiida_e3relax.gnn.prediction.predictor import Predictor, check_details_of, load_pre_relaxer
from aiida_e3relax.gnn.prediction.report import (
    ReportWriter,
    Tally,
    describe_nothing_read,
    note_on_steps,
    note_on_training,
)
from aiida_e3relax.gnn.prediction.settings import PredictionSettings

UNCALIBRATED = (
    'warning: the uncertainty of this ensemble is not scaled to errors: take it for an order of them, not for their '
    'size; `e3relax ensemble --calibrate` scales it'
)


def predict_to_file(
    inputs: list[Path], model: Path | None, output: Path, settings: PredictionSettings, report: ReportWriter
) -> tuple[int, str]:
    """Do what `predict_files` does with an open report.

    Returns the number of rows that are unreadable, and in a line what came of the run.
    """
    start = time.perf_counter()
    device = prepare_device(settings.device, settings.threads)
    report.content['versions']['torch'] = torch.__version__
    report.content['device'] = {'requested': settings.device, **describe_device(device)}
    dtype, reason = choose_dtype(settings.dtype, device, settings.pre_relaxation is not None)
    report.content['dtype'] = dtype
    report.content['precision'] = {'requested': settings.dtype, 'reason': reason}
    report.content['max_edges'] = settings.max_edges
    report.content['engine'] = settings.engine
    report.content['freedom'] = settings.freedom and dataclasses.asdict(settings.freedom)
    fixed = read_fixed_sites(settings.fixed_sites)
    relaxation = load_pre_relaxer(settings.pre_relaxation, device, dtype, settings.potential is None)
    report.content |= dict.fromkeys(('second_opinion', 'potential'))
    if relaxation:
        report.content[relaxation.key] = relaxation.facts()
        report.content['versions']['ase'] = version('ase')
    checkpoint = None if model is None else load_checkpoint(model)
    report.content['model'] = checkpoint and _model_facts(checkpoint)
    if checkpoint and not checkpoint.is_calibrated:
        print(UNCALIBRATED, file=sys.stderr)
    check_details_of(checkpoint, settings.details)
    pieces = stream_structures(inputs)
    unreadable: list[Unreadable] = []
    first = _first_crystals(pieces, unreadable)
    if first is None:
        raise InputError(describe_nothing_read(inputs, [fault.message for fault in unreadable]))
    second = next(pieces, None) if fixed else None
    known = {*_with_own_labels(first, UniqueLabels())[0].labels.tolist(), *_labels_of((*unreadable, *first.unreadable))}
    if fixed and second is None and not fixed.keys() & known:
        raise InputError(describe_unknown(fixed, first.crystals.labels.tolist()))
    with open_writer(output) as writer, DetailFiles(output, settings) as files:
        writer.check(len(first))
        report.content['timings_s'] = {'load': time.perf_counter() - start, 'graph': 0.0, 'forward': 0.0}
        title = 'predicting' if checkpoint or not relaxation else f'relaxing by {relaxation.name}'
        line = ProgressLine(title, count_structures(inputs))
        everything = itertools.chain([first], [second] if second is not None else [], pieces)
        outputs = writer, files, report
        predictor = Predictor(
            checkpoint, device, DTYPES[dtype], settings.engine, relaxation, settings.restores_symmetry
        )
        tally = _predict_pieces(everything, unreadable, predictor, settings, fixed, outputs, line)
        report.add('structures', [_unreadable_row(fault) for fault in unreadable])
        line.close()
        report.content['peak_memory_mb'] = _peak_memory_mb(device)
        report.content['max_edges_fitted'] = predictor.max_edges_fitted
        report.content['precision']['symmetry'] = predictor.symmetry.facts()
        if tally.statuses['out_of_memory'] == (total := tally.statuses.total()):
            raise OutOfMemoryError(f'none of {total} structures fits into the memory of {device}: use a larger device')
        writer.close()
        files.close()
    return len(unreadable), f'{tally.describe(checkpoint is not None, len(unreadable))}; wrote {printable(output)}'


def _first_crystals(pieces: Iterator[Piece], unreadable: list[Unreadable]) -> Piece | None:
    """Return the first of `pieces` with a crystal, or None, and keep what could not be read before it."""
    for piece in pieces:
        if len(piece):
            return piece
        unreadable += piece.unreadable
    return None


def _unreadable_row(fault: Unreadable) -> dict[str, Any]:
    return {'label': fault.label, 'status': 'unreadable', 'message': fault.message, 'n_atoms': None}


def _predict_pieces(
    pieces: Iterator[Piece],
    unreadable: list[Unreadable],
    predictor: Predictor,
    settings: PredictionSettings,
    fixed: FixedSites,
    outputs: tuple[NpzWriter | AseWriter, DetailFiles, ReportWriter],
    line: ProgressLine,
) -> Tally:
    """Predict and write piece after piece, and return what came of the structures.

    Fills `unreadable`, also by the labels in `fixed` that no structure has: their sites are held nowhere.
    """
    tally = Tally()
    unknown = set(fixed) - _labels_of(unreadable)
    writer, files, report = outputs
    seconds = report.content['timings_s']
    taken = UniqueLabels()
    for fault in unreadable:
        line.say(f'passed over: {fault.message}')
    for piece in pieces:
        unreadable += piece.unreadable
        unknown -= _labels_of(piece.unreadable)
        for fault in piece.unreadable:
            line.say(f'passed over: {fault.message}')
        if not len(piece):
            continue
        crystals, notes = _with_own_labels(piece, taken)
        done = tally.statuses.total()
        result, freedom, rows = predictor.predict(
            crystals, piece.atoms, settings.freedom, settings.max_edges, line, settings.details, fixed
        )
        for index, (row, note) in enumerate(zip(rows, notes, strict=True)):
            told = [row['message'], note, note_on_training(row)]
            if row['status'] == 'ok':
                told += [freedom.notes.get(index), result.broken_layers.get(index), note_on_steps(row)]
                told.append(writer.find_lost(result.crystals.cell[index], freedom.movable[index]))
            row['message'] = '; '.join(filter(None, told))
            if row['message']:
                line.say(f'{printable(row["label"])}: {row["status"]}: {row["message"]}')
        tally.add(rows)
        unknown -= set(crystals.labels.tolist())
        report.add('batches', [[done + index for index in batch] for batch in result.batches])
        report.add('structures', rows)
        for name, value in result.seconds.items():
            seconds[name] = seconds.get(name, 0.0) + value
        status = np.array([row['status'] for row in rows], dtype=np.str_)
        writer.write(result.crystals, status, result.uncertainty, freedom.movable)
        files.write(crystals, result, freedom.movable)
    if words := tally.describe_steps():
        line.say(words)
    for label in sorted(unknown):
        unreadable.append(Unreadable(printable(label), describe_unknown([label], [])))
        line.say(unreadable[-1].message)
    return tally


def _labels_of(faults: Iterable[Unreadable]) -> set[str]:
    return {fault.label for fault in faults}


def _with_own_labels(piece: Piece, taken: UniqueLabels) -> tuple[Crystals, list[str]]:
    """Return the crystals of a piece with labels that none before had, and their notes."""
    given = piece.crystals.labels.tolist()
    labels = [taken.claim(label) for label in given]
    notes = [
        note if label == old else '; '.join(filter(None, (note, f'another has the label {printable(old)}')))
        for note, label, old in zip(piece.notes, labels, given, strict=True)
    ]
    return dataclasses.replace(piece.crystals, labels=np.array(labels, dtype=np.str_)), notes


def _model_facts(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        'architecture': checkpoint.architecture,
        'content_hash': checkpoint.content_hash,
        'hyperparameters': dataclasses.asdict(checkpoint.model.hyperparameters),
        'training_step': checkpoint.training.get('step'),
    }


def _peak_memory_mb(device: torch.device) -> float:
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated(device) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
