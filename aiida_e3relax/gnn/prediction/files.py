"""Prediction for files of crystals, of any number: read, predicted and written in pieces."""

from __future__ import annotations

import dataclasses
import itertools
import platform
import resource
import time
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from aiida_e3relax.common.errors import (
    SOME_UNREADABLE,
    InputError,
    OutOfMemoryError,
    OutputError,
    RunError,
    RunInterruptedError,
)
from aiida_e3relax.common.interrupts import sigterm_as_interrupt
from aiida_e3relax.common.messages import printable
from aiida_e3relax.common.out_of_memory import is_out_of_memory
from aiida_e3relax.common.output_files import check_output
from aiida_e3relax.common.progress import ProgressLine
from aiida_e3relax.crystals.files.errors import explain
from aiida_e3relax.crystals.files.labels import UniqueLabels
from aiida_e3relax.crystals.files.stream import Piece, Unreadable, count_structures, stream_structures
from aiida_e3relax.crystals.files.writers import AseWriter, NpzWriter, open_writer
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.gnn.checkpoints.checkpoint import Checkpoint, load_checkpoint
from aiida_e3relax.gnn.device import DTYPES, device_name, prepare_device
from aiida_e3relax.gnn.potentials.registry import load_potential
from aiida_e3relax.gnn.prediction.predictor import Predictor
from aiida_e3relax.gnn.prediction.report import ReportWriter
from aiida_e3relax.gnn.prediction.settings import PredictionSettings

if TYPE_CHECKING:
    from aiida_e3relax.gnn.prediction.refinement import SecondOpinion


def predict_files(
    inputs: list[Path], model: Path, output: Path, report: Path | None, settings: PredictionSettings
) -> int:
    """Predict for the crystals of the files `inputs`, write `output` and `report`, and return the exit status.

    What cannot be read is told and passed over: its rows in the report, of status ``unreadable``, come after those of
    the crystals, and the exit status is `SOME_UNREADABLE`. Labels that come again get a number.

    An ``.npz`` holds all structures, the failed ones as they came, with their status; other formats hold those that
    were predicted. `output` appears when the run ends well, and never in part. `report` is written whatever happens:
    a run that fails as a whole states its error there, for programs to read.
    """
    start = time.perf_counter()
    if report is not None:
        check_output(report, '--report', [*inputs, model, output])
    with ReportWriter(report) as writer, sigterm_as_interrupt():
        writer.content['versions'] = _versions()
        try:
            check_output(output, '--output', [*inputs, model])
            unreadable = _predict_files(inputs, model, output, settings, writer)
        except BaseException as error:  # an interrupt too: a report without an error would promise an output
            failure = _run_error(error)
            writer.content['error'] = {
                'code': failure.code,
                'message': str(failure),
                'exit_status': failure.exit_status,
            }
            if failure is error or type(failure) in (RunError, RunInterruptedError):
                raise
            raise failure from error
        finally:
            writer.content.setdefault('timings_s', {})['total'] = time.perf_counter() - start
    return SOME_UNREADABLE if unreadable else 0


def _run_error(error: BaseException) -> RunError:
    """Return what an exception means for the run; one that nobody expected keeps its name."""
    if isinstance(error, RunError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return RunInterruptedError(str(error) or 'interrupted')
    if is_out_of_memory(error):
        return OutOfMemoryError(f'{explain(error)}: use a smaller --max-edges, or a larger device')
    if isinstance(error, OSError):
        return OutputError(f'{error.filename or "a temporary file"}: {error.strerror or error}')
    return RunError(explain(error))


def _predict_files(
    inputs: list[Path], model: Path, output: Path, settings: PredictionSettings, report: ReportWriter
) -> int:
    """Do what `predict_files` does with an open report, and return the number of rows that are unreadable."""
    start = time.perf_counter()
    device = prepare_device(settings.device, settings.threads)
    report.content['device'] = {'requested': settings.device, 'used': str(device), 'name': device_name(device)}
    report.content['dtype'] = settings.dtype
    report.content['max_edges'] = settings.max_edges
    report.content['engine'] = settings.engine
    report.content['freedom'] = settings.freedom and dataclasses.asdict(settings.freedom)
    opinion = _second_opinion(settings, device)
    report.content['second_opinion'] = opinion and opinion.facts()
    checkpoint = load_checkpoint(model)
    report.content['model'] = _model_facts(checkpoint)
    pieces = stream_structures(inputs)
    unreadable: list[Unreadable] = []
    first = _first_crystals(pieces, unreadable)
    if first is None:
        raise InputError(_nothing_read(inputs, unreadable))
    with open_writer(output) as writer:
        writer.check(len(first))
        report.content['timings_s'] = {'load': time.perf_counter() - start, 'graph': 0.0, 'forward': 0.0}
        line = ProgressLine('predicting', count_structures(inputs))
        everything = itertools.chain([first], pieces)
        counts = _predict_pieces(everything, unreadable, checkpoint, device, settings, opinion, writer, report, line)
        report.add('structures', [_unreadable_row(fault) for fault in unreadable])
        line.close()
        report.content['peak_memory_mb'] = _peak_memory_mb(device)
        if counts['out_of_memory'] == counts.total():
            raise OutOfMemoryError(
                f'none of {counts.total()} structures fits into the memory of {device}: use a larger device'
            )
        writer.close()
    return len(unreadable)


def _first_crystals(pieces: Iterator[Piece], unreadable: list[Unreadable]) -> Piece | None:
    """Return the first of `pieces` with a crystal, or None, and keep what could not be read before it."""
    for piece in pieces:
        if len(piece):
            return piece
        unreadable += piece.unreadable
    return None


def _nothing_read(inputs: list[Path], unreadable: list[Unreadable]) -> str:
    """Return the message for inputs without a crystal."""
    if not unreadable:
        return f'{", ".join(map(printable, inputs))}: no structure there; expected at least one'
    more = f'; and {len(unreadable) - 20} more' if len(unreadable) > 20 else ''
    return '; '.join(fault.message for fault in unreadable[:20]) + more


def _unreadable_row(fault: Unreadable) -> dict[str, Any]:
    return {'label': fault.label, 'status': 'unreadable', 'message': fault.message, 'n_atoms': None}


def _predict_pieces(
    pieces: Iterator[Piece],
    unreadable: list[Unreadable],
    checkpoint: Checkpoint,
    device: torch.device,
    settings: PredictionSettings,
    opinion: SecondOpinion | None,
    writer: NpzWriter | AseWriter,
    report: ReportWriter,
    line: ProgressLine,
) -> Counter[str]:
    """Predict and write piece after piece, and return how many structures have each status; fills `unreadable`."""
    counts: Counter[str] = Counter()
    seconds = report.content['timings_s']
    predictor = Predictor(checkpoint, device, DTYPES[settings.dtype], settings.engine, opinion)
    taken = UniqueLabels()
    for fault in unreadable:
        line.say(f'passed over: {fault.message}')
    for piece in pieces:
        unreadable += piece.unreadable
        for fault in piece.unreadable:
            line.say(f'passed over: {fault.message}')
        if not len(piece):
            continue
        crystals, notes = _with_own_labels(piece, taken)
        done = counts.total()
        result, freedom, rows = predictor.predict(crystals, piece.atoms, settings.freedom, settings.max_edges, line)
        for index, (row, note) in enumerate(zip(rows, notes, strict=True)):
            told = [row['message'], note]
            if row['status'] == 'ok':
                told.append(freedom.notes.get(index))
                told.append(writer.find_lost(result.crystals.cell[index], freedom.movable[index]))
            row['message'] = '; '.join(filter(None, told))
            if row['message']:
                line.say(f'{printable(row["label"])}: {row["status"]}: {row["message"]}')
        counts.update(row['status'] for row in rows)
        report.add('batches', [[done + index for index in batch] for batch in result.batches])
        report.add('structures', rows)
        for name, value in result.seconds.items():
            seconds[name] = seconds.get(name, 0.0) + value
        status = np.array([row['status'] for row in rows], dtype=np.str_)
        writer.write(result.crystals, status, result.uncertainty, freedom.movable)
    return counts


def _with_own_labels(piece: Piece, taken: UniqueLabels) -> tuple[Crystals, list[str]]:
    """Return the crystals of a piece with labels that none before had, and their notes."""
    given = piece.crystals.labels.tolist()
    labels = [taken.claim(label) for label in given]
    notes = [
        note if label == old else '; '.join(filter(None, (note, f'another has the label {printable(old)}')))
        for note, label, old in zip(piece.notes, labels, given, strict=True)
    ]
    return dataclasses.replace(piece.crystals, labels=np.array(labels, dtype=np.str_)), notes


def _second_opinion(settings: PredictionSettings, device: torch.device) -> SecondOpinion | None:
    """Return who gives a second opinion, if one is asked for; raises MissingPackageError."""
    if settings.second_opinion is None:
        return None
    potential = load_potential(settings.second_opinion, device)
    from aiida_e3relax.gnn.prediction.refinement import SecondOpinion  # needs ASE, which comes with the potential

    return SecondOpinion(potential, settings.second_opinion_steps)


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


def _versions() -> dict[str, str]:
    return {
        'aiida_e3relax': version('aiida-e3relax'),
        'torch': torch.__version__,
        'numpy': np.__version__,
        'python': platform.python_version(),
    }
