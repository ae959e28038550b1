"""Prediction for files of crystals: batches by size, a status for every structure, a report of the run."""

from __future__ import annotations

import dataclasses
import json
import platform
import resource
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aiida_e3relax.gnn.batch import CrystalBatch, make_batch
from aiida_e3relax.gnn.checkpoint import Checkpoint, load_checkpoint
from aiida_e3relax.gnn.engine.cuda_graphs import ReplayedModel
from aiida_e3relax.gnn.errors import InputError, OutOfMemoryError, RunError
from aiida_e3relax.gnn.models.base import RelaxationModel
from aiida_e3relax.gnn.orientation import in_orientation_of, in_standard_orientation
from aiida_e3relax.gnn.prediction_settings import PredictionSettings
from aiida_e3relax.gnn.progress import ProgressLine
from aiida_e3relax.gnn.runtime import DTYPES, device_name, prepare_device
from aiida_e3relax.gnn.structures import Crystals, check_writable, read_structures, write_ase, write_npz
from aiida_e3relax.gnn.validation import Fault, input_faults, neighbour_faults

REPORT_SCHEMA = 1


@dataclasses.dataclass
class Predictions:
    """Predicted crystals in the input's order, with the input's geometry where a structure failed.

    Attributes
    ----------
    crystals
        The predictions; same sites, same order as the input.
    faults
        Status word and message of each structure that failed, by index.
    batches
        Structure indices of each batch.
    seconds
        Time spent in the neighbour search (``graph``) and in the network (``forward``).
    """

    crystals: Crystals
    faults: dict[int, Fault]
    batches: list[list[int]]
    seconds: dict[str, float]


def predict(
    model: RelaxationModel,
    crystals: Crystals,
    elements: list[int],
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    max_edges: int = PredictionSettings.max_edges,
) -> Predictions:
    """Return the relaxed forms of `crystals` as `model` predicts them.

    A batch that does not fit into memory is halved. A structure that cannot be predicted keeps its input geometry and
    gets a status; the others go on.

    Parameters
    ----------
    model
        The network.
    crystals
        The input.
    elements
        Atomic numbers that the model was trained on.
    device, dtype
        Where and in which precision to run.
    max_edges
        Edges in one batch, counted by the model's ``max_neighbours``.
    """
    model = model.to(device=device, dtype=dtype).eval()
    replayed = ReplayedModel(model)
    faults = input_faults(crystals, elements)
    result = Predictions(crystals, faults, [], {'graph': 0.0, 'forward': 0.0})
    positions, cell = crystals.positions.copy(), crystals.cell.copy()
    offsets = crystals.offsets
    sound = [index for index in range(len(crystals)) if index not in faults]
    waiting = list(_batches(crystals, sound, model.hyperparameters.max_neighbours, max_edges))[::-1]
    line = ProgressLine('predicting', len(crystals), len(faults))
    while waiting:
        indices = waiting.pop()
        chosen = crystals.select(indices)
        try:
            geometry, found = _predict_batch(replayed, chosen, device, dtype, result.seconds)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            if len(indices) == 1:
                faults[indices[0]] = 'out_of_memory', f'{chosen.n_atoms[0]} atoms do not fit into the memory'
                line.advance()
            else:
                half = len(indices) // 2
                waiting += [indices[half:], indices[:half]]
            continue
        if geometry is None:  # the neighbour search found faults: go on without those structures
            faults |= {indices[i]: fault for i, fault in found.items()}
            good = [index for i, index in enumerate(indices) if i not in found]
            waiting += [good] if good else []
            line.advance(len(found))
            continue
        result.batches.append(indices)
        for i, index in enumerate(indices):
            atoms = slice(chosen.offsets[i], chosen.offsets[i + 1])
            if not (np.isfinite(geometry.positions[atoms]).all() and np.isfinite(geometry.cell[i]).all()):
                faults[index] = 'prediction_not_finite', 'the network returned NaN or infinite numbers'
                continue
            positions[offsets[index] : offsets[index + 1]] = geometry.positions[atoms]
            cell[index] = geometry.cell[i]
        line.advance(len(indices))
    line.close()
    result.crystals = crystals.replace(positions, cell)
    return result


def _batches(crystals: Crystals, indices: list[int], max_neighbours: int, max_edges: int) -> Iterator[list[int]]:
    """Yield runs of `indices` whose edges stay within `max_edges`; a larger structure stands alone."""
    batch: list[int] = []
    held = 0
    for index in indices:
        edges = int(crystals.n_atoms[index]) * max_neighbours
        if batch and held + edges > max_edges:
            yield batch
            batch, held = [], 0
        batch.append(index)
        held += edges
    if batch:
        yield batch


def _predict_batch(
    replayed: ReplayedModel, crystals: Crystals, device: torch.device, dtype: torch.dtype, seconds: dict[str, float]
) -> tuple[Crystals | None, dict[int, Fault]]:
    """Return the predicted crystals of one batch, or None and the faults that its neighbour search showed."""
    model, start = replayed.model, time.perf_counter()
    given = crystals
    if model.standard_orientation:
        crystals, rotation = in_standard_orientation(given)
    batch = make_batch(crystals, model.graph, device, dtype)
    faults = neighbour_faults(*_nearest(batch), crystals, model.hyperparameters.cutoff)
    seconds['graph'] += time.perf_counter() - start
    if faults:
        return None, faults
    start = time.perf_counter()
    geometry = replayed(batch)
    fractional = geometry.fractional.double().cpu().numpy()
    cell = geometry.cell.double().cpu().numpy()
    seconds['forward'] += time.perf_counter() - start
    positions = np.einsum('ac,acx->ax', fractional, cell[crystals.structure_index])
    predicted = crystals.replace(positions, cell)
    return in_orientation_of(predicted, given, rotation) if model.standard_orientation else predicted, {}


def _nearest(batch: CrystalBatch) -> tuple[np.ndarray, np.ndarray]:
    """Return per atom ``(A,)`` the distance to its nearest neighbour, in A, and the number of its neighbours."""
    centre, count = batch.graph.centre, len(batch.numbers)
    distance = batch.edge_vectors(batch.fractional, batch.cell).norm(dim=1)
    shortest = distance.new_full((count,), torch.inf).scatter_reduce(0, centre, distance, 'amin')
    return shortest.cpu().numpy(), torch.bincount(centre, minlength=count).cpu().numpy()


def _is_out_of_memory(error: BaseException) -> bool:
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in text


def predict_files(
    inputs: list[Path], model: Path, output: Path, report: Path | None, settings: PredictionSettings
) -> int:
    """Predict for the crystals of the files `inputs`, write `output` and `report`, and return the exit status.

    An ``.npz`` holds all structures, the failed ones as they came, with their status; other formats hold those that
    were predicted. `report` is written whatever happens: a run that fails as a whole states its error there, for
    programs to read.
    """
    content: dict[str, Any] = {'schema': REPORT_SCHEMA, 'program': 'e3relax', 'versions': _versions(), 'error': None}
    start = time.perf_counter()
    try:
        _predict_files(inputs, model, output, settings, content)
    except RunError as error:
        content['error'] = {'code': error.code, 'message': str(error), 'exit_status': error.exit_status}
        raise
    except Exception as error:
        content['error'] = {'code': RunError.code, 'message': f'{type(error).__name__}: {error}', 'exit_status': 1}
        raise
    finally:
        if report is not None:
            content.setdefault('timings_s', {})['total'] = time.perf_counter() - start
            report.write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')
    return 0


def _predict_files(
    inputs: list[Path], model: Path, output: Path, settings: PredictionSettings, content: dict[str, Any]
) -> None:
    start = time.perf_counter()
    device = prepare_device(settings.device, settings.threads)
    content['device'] = {'requested': settings.device, 'used': str(device), 'name': device_name(device)}
    content['dtype'] = settings.dtype
    content['max_edges'] = settings.max_edges
    checkpoint = load_checkpoint(model)
    content['model'] = _model_facts(checkpoint)
    crystals = read_structures(inputs)
    check_writable(output, len(crystals))
    loaded = time.perf_counter()
    result = predict(
        checkpoint.model, crystals, checkpoint.elements, device, DTYPES[settings.dtype], settings.max_edges
    )
    content['timings_s'] = {'load': loaded - start, **result.seconds}
    content['peak_memory_mb'] = _peak_memory_mb(device)
    content['batches'] = result.batches
    content['structures'] = _structure_facts(crystals, result)
    status = np.array([row['status'] for row in content['structures']], dtype=np.str_)
    if len(status) and (status == 'out_of_memory').all():
        raise OutOfMemoryError(
            f'none of {len(status)} structures fits into the memory of {device}: use a larger device'
        )
    for row in content['structures']:
        if row['message']:
            print(f'{row["label"]}: {row["status"]}: {row["message"]}', file=sys.stderr)
    if output.suffix == '.npz':
        write_npz(output, result.crystals, status=status)
        return
    predicted = np.flatnonzero(status == 'ok')
    if not len(predicted):
        raise InputError(f'{output} was not written: no structure could be predicted')
    write_ase(output, result.crystals.select(predicted))


def _model_facts(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        'architecture': checkpoint.architecture,
        'content_hash': checkpoint.content_hash,
        'hyperparameters': dataclasses.asdict(checkpoint.model.hyperparameters),
        'training_step': checkpoint.training.get('step'),
    }


def _structure_facts(crystals: Crystals, result: Predictions) -> list[dict[str, Any]]:
    """Return one row a structure: label, status, message, and how far the prediction is from the input."""
    predicted, rows = result.crystals, []
    for index in range(len(crystals)):
        status, message = result.faults.get(index, ('ok', ''))
        row: dict[str, Any] = {'label': str(crystals.labels[index]), 'status': status, 'message': message}
        row['n_atoms'] = int(crystals.n_atoms[index])
        if status == 'ok':
            if not crystals.pbc[index].all():
                row['message'] = 'predicted as if periodic in all three directions'
            row |= _change(crystals.select([index]), predicted.select([index]))
        rows.append(row)
    return rows


def _change(before: Crystals, after: Crystals) -> dict[str, float]:
    """Return volumes, displacements at fixed cell, and the largest principal strain, between two crystals."""
    displacement = np.linalg.norm((after.fractional() - before.fractional()) @ after.cell[0], axis=1)
    stretches = np.linalg.svd(np.linalg.inv(before.cell[0]) @ after.cell[0], compute_uv=False)
    return {
        'volume_initial_A3': float(abs(before.volumes[0])),
        'volume_predicted_A3': float(abs(after.volumes[0])),
        'max_displacement_A': float(displacement.max()),
        'mean_displacement_A': float(displacement.mean()),
        'max_principal_strain': float(np.abs(stretches - 1).max()),
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
