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

from aiida_e3relax.gnn.checkpoint import Checkpoint, load_checkpoint
from aiida_e3relax.gnn.engine import with_engine
from aiida_e3relax.gnn.engine.cuda_graphs import ReplayedModel
from aiida_e3relax.gnn.errors import InputError, OutOfMemoryError, RunError
from aiida_e3relax.gnn.potentials import load_potential
from aiida_e3relax.gnn.predict import predict
from aiida_e3relax.gnn.prediction_report import ReportWriter, structure_rows
from aiida_e3relax.gnn.prediction_settings import PredictionSettings
from aiida_e3relax.gnn.progress import ProgressLine
from aiida_e3relax.gnn.runtime import DTYPES, device_name, prepare_device
from aiida_e3relax.gnn.structure_files import count_structures, stream_structures
from aiida_e3relax.gnn.structure_writers import AseWriter, NpzWriter, open_writer
from aiida_e3relax.gnn.structures import Crystals

if TYPE_CHECKING:
    from aiida_e3relax.gnn.second_opinion import SecondOpinion


def predict_files(
    inputs: list[Path], model: Path, output: Path, report: Path | None, settings: PredictionSettings
) -> int:
    """Predict for the crystals of the files `inputs`, write `output` and `report`, and return the exit status.

    An ``.npz`` holds all structures, the failed ones as they came, with their status; other formats hold those that
    were predicted. `output` appears when the run ends well, and never in part. `report` is written whatever happens:
    a run that fails as a whole states its error there, for programs to read.
    """
    start = time.perf_counter()
    with ReportWriter(report) as writer:
        writer.content['versions'] = _versions()
        try:
            _predict_files(inputs, model, output, settings, writer)
        except RunError as error:
            writer.content['error'] = {
                'code': error.code,
                'message': str(error),
                'exit_status': error.exit_status,
            }
            raise
        except BaseException as error:  # an interrupt too: a report without an error would promise an output
            message = f'{type(error).__name__}: {error}'
            writer.content['error'] = {'code': RunError.code, 'message': message, 'exit_status': RunError.exit_status}
            raise
        finally:
            writer.content.setdefault('timings_s', {})['total'] = time.perf_counter() - start
    return 0


def _predict_files(
    inputs: list[Path], model: Path, output: Path, settings: PredictionSettings, report: ReportWriter
) -> None:
    start = time.perf_counter()
    device = prepare_device(settings.device, settings.threads)
    report.content['device'] = {'requested': settings.device, 'used': str(device), 'name': device_name(device)}
    report.content['dtype'] = settings.dtype
    report.content['max_edges'] = settings.max_edges
    report.content['engine'] = settings.engine
    opinion = _second_opinion(settings, device)
    report.content['second_opinion'] = opinion and opinion.facts()
    checkpoint = load_checkpoint(model)
    report.content['model'] = _model_facts(checkpoint)
    pieces = stream_structures(inputs)
    first = next(pieces, None)
    if first is None or not len(first):
        raise InputError(f'{", ".join(map(str, inputs))}: no structure there; expected at least one')
    with open_writer(output) as writer:
        writer.check(len(first))
        report.content['timings_s'] = {'load': time.perf_counter() - start, 'graph': 0.0, 'forward': 0.0}
        line = ProgressLine('predicting', count_structures(inputs))
        everything = itertools.chain([first], pieces)
        counts = _predict_pieces(everything, checkpoint, device, settings, opinion, writer, report, line)
        line.close()
        report.content['peak_memory_mb'] = _peak_memory_mb(device)
        if counts['out_of_memory'] == counts.total():
            raise OutOfMemoryError(
                f'none of {counts.total()} structures fits into the memory of {device}: use a larger device'
            )
        writer.close()


def _predict_pieces(
    pieces: Iterator[Crystals],
    checkpoint: Checkpoint,
    device: torch.device,
    settings: PredictionSettings,
    opinion: SecondOpinion | None,
    writer: NpzWriter | AseWriter,
    report: ReportWriter,
    line: ProgressLine,
) -> Counter[str]:
    """Predict and write piece after piece, and return how many structures have each status."""
    counts: Counter[str] = Counter()
    dtype, seconds = DTYPES[settings.dtype], report.content['timings_s']
    model = with_engine(checkpoint.model, settings.engine)
    replayed = ReplayedModel(model)
    for crystals in pieces:
        done = counts.total()
        result = predict(model, crystals, checkpoint.elements, device, dtype, settings.max_edges, line, replayed)
        opinions: dict[int, dict[str, Any]] = {}
        if opinion:
            start = time.perf_counter()
            sound = [index for index in range(len(crystals)) if index not in result.faults]
            result.crystals, opinions = opinion.consult(crystals, result.crystals, sound)
            result.seconds['second_opinion'] = time.perf_counter() - start
        rows = structure_rows(crystals, result, opinions)
        for row in rows:
            if row['message']:
                line.say(f'{row["label"]}: {row["status"]}: {row["message"]}')
        counts.update(row['status'] for row in rows)
        report.add('batches', [[done + index for index in batch] for batch in result.batches])
        report.add('structures', rows)
        for name, value in result.seconds.items():
            seconds[name] = seconds.get(name, 0.0) + value
        status = np.array([row['status'] for row in rows], dtype=np.str_)
        writer.write(result.crystals, status, result.uncertainty)
    return counts


def _second_opinion(settings: PredictionSettings, device: torch.device) -> SecondOpinion | None:
    """Return who gives a second opinion, if one is asked for; raises MissingPackageError."""
    if settings.second_opinion is None:
        return None
    potential = load_potential(settings.second_opinion, device)
    from aiida_e3relax.gnn.second_opinion import SecondOpinion  # needs ASE, which comes with the potential

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
