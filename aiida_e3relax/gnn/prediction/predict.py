"""Prediction for crystals: batches by size, and a status for every structure."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.common.out_of_memory import is_out_of_memory
from aiida_e3relax.common.progress import ProgressLine
from aiida_e3relax.crystals.bonds import StatedBonds
from aiida_e3relax.crystals.cells import reduction
from aiida_e3relax.crystals.contacts import SMALLEST_DISTANCE
from aiida_e3relax.crystals.freedom.vacuum import LONGEST_LINK
from aiida_e3relax.crystals.metrics import Bonds
from aiida_e3relax.crystals.orientation import Frame
from aiida_e3relax.crystals.structures import MAX_ATOMIC_NUMBER, Crystals
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
from aiida_e3relax.gnn.graph.batch import CrystalBatch, Geometry, make_batch
from aiida_e3relax.gnn.graph.bonds import find_bonds
from aiida_e3relax.gnn.models.base import RelaxationModel
from aiida_e3relax.gnn.models.reference_set import Nearness, ReferenceSet
from aiida_e3relax.gnn.models.uncertainty import BondLengths
from aiida_e3relax.gnn.prediction.freedom import Masks, PredictionFreedom, find_pairs
from aiida_e3relax.gnn.prediction.settings import Details, PredictionSettings

if TYPE_CHECKING:
    from aiida_e3relax.gnn.prediction.candidates import Candidates


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
    distance, example, distant_site
        ``(S,)`` how far a crystal is from those of the training, in the unit of `reference`, NaN where it failed; which
        of its sites, from 0, is the most distant, and which of those is nearest to it; None of models without a
        reference set.
    reference
        Environments of the training.
    layers
        The crystals after every layer of the network before the last, which gives `crystals`; None if not asked for.
    broken_layers
        Why a structure, by index, has no layers although it is predicted.
    bonds
        The bonds of each structure that did not fail, by index; None if not asked for.
    candidates
        The candidates of each structure that a potential could relax, by index; None if not asked for.
    max_edges_fitted
        The bound on the edges of a batch after memory ran out; None where it did not.
    """

    crystals: Crystals
    faults: dict[int, CrystalFault]
    batches: list[list[int]]
    seconds: dict[str, float]
    uncertainty: NDArray[np.float64] | None = None
    distance: NDArray[np.float64] | None = None
    example: NDArray[np.int64] | None = None
    distant_site: NDArray[np.int64] | None = None
    reference: ReferenceSet | None = None
    layers: list[Crystals] | None = None
    broken_layers: dict[int, str] = dataclasses.field(default_factory=dict)
    bonds: dict[int, StatedBonds] | None = None
    candidates: dict[int, Candidates] | None = None
    max_edges_fitted: int | None = None


def check_bonds(model: RelaxationModel, name: str) -> None:
    """Raise InputError unless the model of that `name` states an uncertainty of every bond."""
    if not model.states_bonds:
        raise InputError(
            f'bonds: {name} states no uncertainty of bonds as it is; expected an ensemble, such as the default model '
            'or what `e3relax ensemble` makes, or deeprelax or deeprelax-published with `local_uncertainty`'
        )


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
    details: Details = PredictionSettings.details,
    fixed: Masks = (None, None),
    reference: ReferenceSet | None = None,
) -> Predictions:
    """Return the relaxed forms of `crystals` as `model` predicts them.

    A batch that does not fit into memory is halved, and those after it are no larger. A structure that cannot be
    predicted keeps its input geometry and gets a status; the others go on.

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
    details
        What to return beside the structures; by default nothing, and nothing is spent on it.
    fixed
        Fractional coordinates ``(A, 3)`` that do not move and crystals ``(S,)`` whose cell does not change, each None
        where there are none. A `freedom` says it instead.
    reference
        Environments that the model was trained on; distances to them are stated, and uncertainties grow with these.
    """
    if details.bonds:
        check_bonds(model, type(model).__name__)
    model = model.to(device=device, dtype=dtype).eval()
    replayed = replayed or ReplayedModel(model, with_features=reference is not None)
    reference = reference and reference.to(device, dtype)
    faults = (freedom.faults if freedom else {}) | _faults_before(crystals, elements, model.cutoff, device)
    result = Predictions(crystals, faults, [], {'graph': 0.0, 'forward': 0.0}, reference=reference)
    gathered = _Gathered(crystals, details)
    sound = [index for index in np.argsort(crystals.n_atoms, kind='stable').tolist() if index not in faults]
    waiting = list(_batches(crystals, sound, model.max_neighbours, max_edges))[::-1]
    own_line = line is None
    line = line or ProgressLine('predicting', len(crystals))
    line.advance(len(faults))
    while waiting:
        indices = waiting.pop()
        chosen = crystals.select(indices)
        find_more = partial(freedom.find_faults, indices) if freedom else None
        masks = partial(freedom.masks if freedom else partial(_selected, fixed, crystals), indices)
        try:
            outcome, found = _predict_batch(
                replayed, chosen, device, dtype, result.seconds, find_more, masks, details, reference
            )
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            replayed.release()
            if len(indices) == 1:
                faults[indices[0]] = 'out_of_memory', f'{chosen.n_atoms[0]} atoms do not fit into the memory'
                line.advance()
            else:
                result.max_edges_fitted = int(chosen.n_atoms.sum()) * model.max_neighbours // 2
                left = [*indices, *itertools.chain.from_iterable(reversed(waiting))]
                waiting = list(_batches(crystals, left, model.max_neighbours, result.max_edges_fitted))[::-1]
            continue
        if outcome is None:  # the neighbour search found faults: go on without those structures
            faults |= {indices[i]: fault for i, fault in found.items()}
            good = [index for i, index in enumerate(indices) if i not in found]
            waiting += [good] if good else []
            line.advance(len(found))
            continue
        result.batches.append(indices)
        usable = has_sound_geometry(outcome.layers[-1])
        for i, index in enumerate(indices):
            if usable[i]:
                gathered.take(outcome, i, index)
            else:
                faults[index] = _prediction_fault(outcome.layers[-1].select([i]))
        line.advance(len(indices))
    if own_line:
        line.close()
    gathered.fill(result)
    return result


def without_network(crystals: Crystals, device: torch.device, freedom: PredictionFreedom) -> Predictions:
    """Return `crystals` as they are, in batches of one, with the faults of those that nothing can be computed for.

    They are those of `predict` that come from no network: geometries that are no crystals, atoms on top of each other,
    a vacuum that is not kept.
    """
    start = time.perf_counter()
    everything = list(range(1, MAX_ATOMIC_NUMBER + 1))
    faults = freedom.faults | _faults_before(crystals, everything, LONGEST_LINK, device)
    for find in (partial(_overlaps, crystals), freedom.find_faults):
        sound = [index for index in range(len(crystals)) if index not in faults]
        faults |= {sound[place]: fault for place, fault in find(sound).items()}
    batches = [[index] for index in range(len(crystals)) if index not in faults]
    return Predictions(crystals, faults, batches, {'graph': time.perf_counter() - start, 'forward': 0.0})


def _overlaps(crystals: Crystals, indices: list[int]) -> dict[int, CrystalFault]:
    """Return the faults, by place in `indices`, of crystals with atoms on top of each other."""
    faults: dict[int, CrystalFault] = {}
    for place, index in enumerate(indices):
        crystal = crystals.select([index])
        count = len(crystal.numbers)
        first, second, offset = find_pairs(crystal, SMALLEST_DISTANCE)
        if not len(first):
            continue
        distance = Bonds(first, second, offset).lengths(crystal)
        nearest = Nearest(np.full(count, np.inf), np.zeros(count, dtype=np.int64), np.ones(count, dtype=np.int64))
        for pair in np.argsort(-distance):
            nearest.distance[first[pair]], nearest.neighbour[first[pair]] = distance[pair], second[pair]
        faults[place] = neighbour_faults(nearest, crystal, SMALLEST_DISTANCE)[0]
    return faults


def _selected(fixed: Masks, crystals: Crystals, indices: list[int]) -> Masks:
    """Return the masks of the crystals at `indices`."""
    coordinates, cells = fixed
    return (
        None if coordinates is None else coordinates[crystals.atoms_of(indices)],
        None if cells is None else cells[indices],
    )


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


@dataclasses.dataclass(frozen=True)
class _Outcome:
    """What a batch gave: its layers, of which the last is the prediction, and what is stated of it."""

    layers: list[Crystals]
    uncertainty: NDArray[np.float64] | None
    bonds: list[StatedBonds] | None
    near: _Near | None = None


@dataclasses.dataclass(frozen=True)
class _Near:
    """`Nearness` of a batch in NumPy's arrays."""

    distance: NDArray[np.float64]
    example: NDArray[np.int64]
    site: NDArray[np.int64]


class _Gathered:
    """What batches gave, in the order of the input; the input's geometry where nothing came."""

    def __init__(self, crystals: Crystals, details: Details):
        self._crystals, self._offsets, self._details = crystals, crystals.offsets, details
        self._layers = [self._input()]
        self._uncertainty, self._distance = (np.full(len(crystals), np.nan) for _ in range(2))
        self._example, self._site = (np.zeros(len(crystals), dtype=np.int64) for _ in range(2))
        self._bonds: dict[int, StatedBonds] = {}

    def _input(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return self._crystals.positions.copy(), self._crystals.cell.copy()

    def take(self, outcome: _Outcome, i: int, index: int) -> None:
        """Take crystal `i` of a batch for that at `index` of the input."""
        while len(self._layers) < len(outcome.layers):
            self._layers.append(self._input())
        atoms = slice(self._offsets[index], self._offsets[index + 1])
        for (positions, cell), layer in zip(self._layers, outcome.layers, strict=True):
            positions[atoms] = layer.positions[layer.offsets[i] : layer.offsets[i + 1]]
            cell[index] = layer.cell[i]
        if outcome.uncertainty is not None:
            self._uncertainty[index] = outcome.uncertainty[i]
        if outcome.near is not None:
            self._distance[index] = outcome.near.distance[i]
            self._example[index], self._site[index] = outcome.near.example[i], outcome.near.site[i]
        if outcome.bonds is not None:
            self._bonds[index] = outcome.bonds[i]

    def fill(self, result: Predictions) -> None:
        """Put all of it into `result`."""
        *layers, result.crystals = [self._crystals.replace(*layer) for layer in self._layers]
        if np.isfinite(self._uncertainty).any():
            result.uncertainty = self._uncertainty
        if result.reference is not None:
            result.distance, result.example, result.distant_site = self._distance, self._example, self._site
        result.layers = layers if self._details.layers else None
        result.bonds = self._bonds if self._details.bonds else None


def _predict_batch(
    replayed: ReplayedModel,
    crystals: Crystals,
    device: torch.device,
    dtype: torch.dtype,
    seconds: dict[str, float],
    find_more_faults: Callable[[CrystalBatch], dict[int, CrystalFault]] | None,
    masks: Callable[[], Masks],
    details: Details,
    reference: ReferenceSet | None,
) -> tuple[_Outcome | None, dict[int, CrystalFault]]:
    """Return what one batch gives, or None and the faults of its neighbour search."""
    model, start, given = replayed.model, time.perf_counter(), crystals
    frame = Frame.of(crystals, standard=model.standard_orientation)
    crystals = frame.turned(crystals)
    batch = make_batch(crystals, model.graph, device, dtype)
    faults = neighbour_faults(_nearest(batch), crystals, model.cutoff)
    if find_more_faults:
        faults = find_more_faults(batch) | faults
    seconds['graph'] += time.perf_counter() - start
    if faults:
        return None, faults
    start = time.perf_counter()
    fixed = masks()
    coordinates, cells = (None if mask is None else torch.as_tensor(mask, device=device) for mask in fixed)
    batch = dataclasses.replace(batch, fixed=coordinates, fixed_cell=cells)
    geometries, stated = _run(replayed, batch, crystals, details)
    layers = [frame.turned_back(_crystals(geometry, crystals, fixed)) for geometry in geometries]
    near = None if reference is None else _nearness(reference, geometries[-1], batch)
    spread = geometries[-1].uncertainty
    if reference is not None and near is not None and spread is not None:
        widened = reference.widened(spread, near.distance)
        stated = stated and stated.scaled(widened / spread, batch.structure_index)
        spread = widened
    uncertainty = None if spread is None else spread.double().cpu().numpy()
    told = None
    if near is not None:
        told = _Near(*(values.cpu().numpy() for values in (near.distance.double(), near.example, near.site)))
    seconds['forward'] += time.perf_counter() - start
    bonds = None if stated is None else _split_bonds(stated, frame, given, layers[-1])
    return _Outcome(layers, uncertainty, bonds, told), {}


def _nearness(reference: ReferenceSet, prediction: Geometry, batch: CrystalBatch) -> Nearness:
    """Return how near the crystals of `batch` are to those of the training, by what the network made of their sites."""
    assert prediction.features is not None, 'a checkpoint with a reference set is of a model that has features'
    return reference.find_nearest(prediction.features, batch.structure_index, batch.n_atoms)


def _run(
    replayed: ReplayedModel, batch: CrystalBatch, crystals: Crystals, details: Details
) -> tuple[list[Geometry], BondLengths | None]:
    """Return the prediction, behind its earlier layers where these are asked for, and the bonds where they are.

    CUDA graphs hold the prediction alone: details are computed kernel by kernel.
    """
    if details == Details():
        return [replayed(batch)], None
    stated: BondLengths | None = None
    with torch.no_grad():
        if details.bonds:
            geometries, stated = replayed.model.with_bonds(batch, lambda: find_bonds(crystals, batch.cell.device))
        else:
            geometries = replayed.model(batch)
    return geometries if details.layers else geometries[-1:], stated


def _crystals(geometry: Geometry, crystals: Crystals, fixed: Masks) -> Crystals:
    """Return `crystals` with the coordinates that a model has returned, and what is fixed to the last digit."""
    fractional = geometry.fractional.double().cpu().numpy()
    cell = geometry.cell.double().cpu().numpy()
    coordinates, cells = fixed
    if coordinates is not None:
        fractional = np.where(coordinates, crystals.fractional(), fractional)
    if cells is not None:
        cell = np.where(cells[:, None, None], crystals.cell, cell)
    return crystals.replace(np.einsum('ac,acx->ax', fractional, cell[crystals.structure_index]), cell)


def _split_bonds(stated: BondLengths, frame: Frame, given: Crystals, predicted: Crystals) -> list[StatedBonds]:
    """Return the bonds crystal by crystal; `given` and `predicted` are turned back from `frame`, in which they were."""
    graph = stated.bonds
    centre, neighbour, offset = (edges.cpu().numpy() for edges in (graph.centre, graph.neighbour, graph.offset))
    crystal = given.structure_index[centre]
    bonds = Bonds(centre, neighbour, frame.offsets_turned_back(offset, crystal))
    first_atom = given.offsets[crystal]
    arrays = (
        *((sites - first_atom).astype(np.int32) for sites in (centre, neighbour)),
        bonds.offset.astype(np.int32),
        *(values.double().cpu().numpy() for values in (stated.length, stated.uncertainty)),
        *(bonds.lengths(crystals) for crystals in (predicted, given)),
    )
    ends = np.searchsorted(crystal, np.arange(1, len(given) + 1))  # edges come sorted by centre
    parts = zip(*(np.split(array, ends[:-1]) for array in arrays), strict=True)
    return [StatedBonds(*(np.array(part) for part in of_one)) for of_one in parts]


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
