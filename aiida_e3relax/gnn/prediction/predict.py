"""Prediction for crystals: batches by size, and a status for every structure."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from aiida_e3relax.common.out_of_memory import is_out_of_memory
from aiida_e3relax.common.progress import ProgressLine
from aiida_e3relax.crystals.cells import reduction
from aiida_e3relax.crystals.contacts import SMALLEST_DISTANCE
from aiida_e3relax.crystals.orientation import Frame
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.crystals.validation import (
    CrystalFault,
    Nearest,
    geometry_fault,
    has_sound_geometry,
    input_faults,
    neighbour_faults,
)
from aiida_e3relax.gnn.engine.cuda_graphs import ReplayedModel
from aiida_e3relax.gnn.graph import pair_search
from aiida_e3relax.gnn.graph.batch import CrystalBatch, make_batch
from aiida_e3relax.gnn.models.base import RelaxationModel
from aiida_e3relax.gnn.prediction.freedom import PredictionFreedom
from aiida_e3relax.gnn.prediction.settings import PredictionSettings


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
    uncertainty
        ``(S,)`` expected error of a crystal's bond lengths in A, NaN where it failed; None of models that state none.
    """

    crystals: Crystals
    faults: dict[int, CrystalFault]
    batches: list[list[int]]
    seconds: dict[str, float]
    uncertainty: NDArray[np.float64] | None = None


def predict(
    model: RelaxationModel,
    crystals: Crystals,
    elements: list[int],
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    max_edges: int = PredictionSettings.max_edges,
    line: ProgressLine | None = None,
    replayed: ReplayedModel | None = None,
    freedom: PredictionFreedom | None = None,
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
    line
        The progress of a longer run that this prediction is a part of; by default it has its own.
    replayed
        The `model` as such a run replays it.
    freedom
        What may move; by default everything, in whatever structure.
    """
    model = model.to(device=device, dtype=dtype).eval()
    replayed = replayed or ReplayedModel(model)
    faults = _faults_before(crystals, elements, model.cutoff, device) | (freedom.faults if freedom else {})
    result = Predictions(crystals, faults, [], {'graph': 0.0, 'forward': 0.0})
    positions, cell = crystals.positions.copy(), crystals.cell.copy()
    offsets, uncertainty = crystals.offsets, np.full(len(crystals), np.nan)
    sound = [index for index in np.argsort(crystals.n_atoms, kind='stable').tolist() if index not in faults]
    waiting = list(_batches(crystals, sound, model.max_neighbours, max_edges))[::-1]
    own_line = line is None
    line = line or ProgressLine('predicting', len(crystals))
    line.advance(len(faults))
    while waiting:
        indices = waiting.pop()
        chosen = crystals.select(indices)
        find_more = partial(freedom.find_faults, indices) if freedom else None
        try:
            geometry, found, spread = _predict_batch(replayed, chosen, device, dtype, result.seconds, find_more)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            replayed.release()
            if len(indices) == 1:
                faults[indices[0]] = 'out_of_memory', f'{chosen.n_atoms[0]} atoms do not fit into the memory'
                line.advance()
            else:
                waiting += [indices[len(indices) // 2 :], indices[: len(indices) // 2]]
            continue
        if geometry is None:  # the neighbour search found faults: go on without those structures
            faults |= {indices[i]: fault for i, fault in found.items()}
            good = [index for i, index in enumerate(indices) if i not in found]
            waiting += [good] if good else []
            line.advance(len(found))
            continue
        result.batches.append(indices)
        usable = has_sound_geometry(geometry)
        for i, index in enumerate(indices):
            if not usable[i]:
                faults[index] = _prediction_fault(geometry.select([i]))
                continue
            atoms = slice(chosen.offsets[i], chosen.offsets[i + 1])
            positions[offsets[index] : offsets[index + 1]] = geometry.positions[atoms]
            cell[index] = geometry.cell[i]
            if spread is not None:
                uncertainty[index] = spread[i]
        line.advance(len(indices))
    if own_line:
        line.close()
    result.crystals = crystals.replace(positions, cell)
    if np.isfinite(uncertainty).any():
        result.uncertainty = uncertainty
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
    replayed: ReplayedModel,
    crystals: Crystals,
    device: torch.device,
    dtype: torch.dtype,
    seconds: dict[str, float],
    find_more_faults: Callable[[CrystalBatch], dict[int, CrystalFault]] | None,
) -> tuple[Crystals | None, dict[int, CrystalFault], NDArray[np.float64] | None]:
    """Return the predicted crystals of one batch, or None and the faults of its neighbour search; and uncertainties."""
    model, start = replayed.model, time.perf_counter()
    frame = Frame.of(crystals, standard=model.standard_orientation)
    crystals = frame.turned(crystals)
    batch = make_batch(crystals, model.graph, device, dtype)
    faults = neighbour_faults(_nearest(batch), crystals, model.cutoff)
    if find_more_faults:
        faults = find_more_faults(batch) | faults
    seconds['graph'] += time.perf_counter() - start
    if faults:
        return None, faults, None
    start = time.perf_counter()
    geometry = replayed(batch)
    fractional = geometry.fractional.double().cpu().numpy()
    cell = geometry.cell.double().cpu().numpy()
    seconds['forward'] += time.perf_counter() - start
    positions = np.einsum('ac,acx->ax', fractional, cell[crystals.structure_index])
    predicted = frame.turned_back(crystals.replace(positions, cell))
    return predicted, {}, None if geometry.uncertainty is None else geometry.uncertainty.double().cpu().numpy()


def _nearest(batch: CrystalBatch) -> Nearest:
    """Return which neighbour of each atom is nearest."""
    centre, neighbour, count = batch.graph.centre, batch.graph.neighbour, len(batch.numbers)
    distance = batch.edge_vectors(batch.fractional, batch.cell).norm(dim=1)
    shortest = distance.new_full((count,), torch.inf).scatter_reduce(0, centre, distance, 'amin')
    nearest = torch.zeros_like(batch.numbers)
    if bool((shortest < SMALLEST_DISTANCE).any()):
        edge = torch.nonzero(distance == shortest[centre])[:, 0]
        nearest[centre[edge]] = neighbour[edge]  # one of those equally near
    neighbours = torch.bincount(centre, minlength=count)
    return Nearest(shortest.double().cpu().numpy(), nearest.cpu().numpy(), neighbours.cpu().numpy())


def _faults_before(
    crystals: Crystals, elements: list[int], cutoff: float, device: torch.device
) -> dict[int, CrystalFault]:
    """Return the faults that show before a neighbour search, and those of crystals in which none would end."""
    faults = input_faults(crystals, elements)
    sound = [index for index in range(len(crystals)) if index not in faults]
    cell = crystals.cell[sound]
    excess = pair_search.find_excess(reduction(cell) @ cell, crystals.n_atoms[sound], cutoff, device)
    return faults | {sound[place]: ('too_large', message) for place, message in excess.items()}


def _prediction_fault(predicted: Crystals) -> CrystalFault:
    """Return the fault of one predicted crystal whose geometry is not sound."""
    status, message = geometry_fault(predicted) or ('', '')
    if status == 'not_finite':
        return 'prediction_not_finite', 'the network returned NaN or infinite numbers'
    return 'prediction_unusable', f'nothing can be computed with what the network returned: {message}'
