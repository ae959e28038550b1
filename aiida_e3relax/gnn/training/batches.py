"""The pairs of a training run on its device, the order of its batches, and the validation errors."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aiida_e3relax.common.errors import TrainingError
from aiida_e3relax.common.messages import suggestion
from aiida_e3relax.common.progress import progress
from aiida_e3relax.crystals.orientation import Frame
from aiida_e3relax.crystals.pairs import Pairs, aligned
from aiida_e3relax.gnn.graph.batch import CrystalBatch, Geometry, make_batch
from aiida_e3relax.gnn.graph.shells import Graph
from aiida_e3relax.gnn.graph.stored import StoredGraph, ranges
from aiida_e3relax.gnn.models.base import RelaxationModel
from aiida_e3relax.gnn.models.distance_model import DistanceModel
from aiida_e3relax.gnn.models.losses import DEFAULT_LOSS, LossSettings, Target
from aiida_e3relax.gnn.training.processes import ALONE, TrainingProcesses

VALIDATION_BATCH = 64

PIECE_ATOMS = 1 << 16
"""Atoms whose graphs are searched before they are stored in fewer bytes."""

SHOWN_PIECES = 8
"""A search in more pieces than these takes a minute or more and shows its progress."""


class PreparedPairs:
    """Pairs as tensors on a device, with their neighbour graphs, searched once, piece by piece.

    Batches are cut out of them; their graphs are in `StoredGraph`, as most of a large data set's memory is edges.

    The relaxed crystals are `align`-ed with the unrelaxed ones, or stay as filed, with the drift and the rotation that
    their files have; then both crystals of a pair are turned to the frame in which prediction shows the model the
    unrelaxed one. As filed their atoms stay in the cells in which their files have them for a `loss` that knows no
    images.
    """

    def __init__(
        self,
        pairs: Pairs,
        model: RelaxationModel,
        device: torch.device,
        align: bool = True,
        loss: str = DEFAULT_LOSS.coordinates,
    ):
        if align:
            pairs = aligned(pairs)
        else:
            images = loss != 'displacement' or isinstance(model, DistanceModel)  # whose edges lead to images
            filed = dataclasses.replace(pairs, relaxed=pairs.as_filed, filed=None)
            pairs = aligned(filed, drift=False, rotation=False, images=images)  # none mirrored
        self.labels, self.source = pairs.unrelaxed.labels, pairs.source
        self.device = device
        before = pairs.unrelaxed
        self.numbers = torch.as_tensor(before.numbers, device=device)
        self.n_atoms = torch.as_tensor(before.n_atoms, device=device)
        self._first_atom = torch.cumsum(self.n_atoms, 0) - self.n_atoms
        self._fixed, self._fixed_cell = _masks(pairs, device)
        pieces: list[tuple[Tensor, ...]] = []
        indices = before.pieces(PIECE_ATOMS)
        self._graph = StoredGraph(
            _piece(pairs.select(piece), model, device, pieces)
            for piece in (progress(indices, 'neighbours') if len(indices) > SHOWN_PIECES else indices)
        )
        self.n_edges = self._graph.n_edges
        self._fractional, self._cell, fractional, cell, reduced = (
            torch.cat(parts) for parts in zip(*pieces, strict=True)
        )
        self.target = Target(fractional, cell, reduced=reduced)

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, indices: NDArray[np.int64]) -> tuple[CrystalBatch, Target]:
        """Return the pairs at `indices` as the model's input and its target."""
        chosen = torch.as_tensor(indices, device=self.device)
        n_atoms = self.n_atoms[chosen]
        atoms, structure_index = ranges(self._first_atom[chosen], n_atoms)
        batch = CrystalBatch(
            numbers=self.numbers[atoms],
            fractional=self._fractional[atoms],
            cell=self._cell[chosen],
            n_atoms=n_atoms,
            structure_index=structure_index,
            graph=self._graph.select(chosen),
            fixed=None if self._fixed is None else self._fixed[atoms],
            fixed_cell=None if self._fixed_cell is None else self._fixed_cell[chosen],
        )
        target = self.target
        return batch, Target(target.fractional[atoms], target.cell[chosen], reduced=target.reduced[chosen])


def _masks(pairs: Pairs, device: torch.device) -> tuple[Tensor | None, Tensor | None]:
    """Return the masks of fixed coordinates and cells; None where there are none."""
    fixed, fixed_cell = (
        None if mask is None else torch.as_tensor(mask, device=device) for mask in (pairs.fixed, pairs.fixed_cell)
    )
    return fixed, fixed_cell


def _piece(
    pairs: Pairs, model: RelaxationModel, device: torch.device, pieces: list[tuple[Tensor, ...]]
) -> tuple[Graph, Tensor]:
    """Return the graph and the numbers of atoms of some pairs, and add their coordinates and cells to `pieces`."""
    frame = Frame.of(pairs.unrelaxed, standard=model.standard_orientation)
    batch, relaxed = make_batch(frame.turned(pairs.unrelaxed), model.graph, device), frame.turned(pairs.relaxed)
    target = Geometry(
        torch.as_tensor(relaxed.fractional(), dtype=torch.float32, device=device),
        torch.as_tensor(relaxed.cell, dtype=torch.float32, device=device),
    )
    fixed, fixed_cell = _masks(pairs, device)
    goal = Target.of(target.fixed_as(dataclasses.replace(batch, fixed=fixed, fixed_cell=fixed_cell)))
    pieces.append((batch.fractional, batch.cell, goal.fractional, goal.cell, goal.reduced))
    return batch.graph, batch.n_atoms


class BatchOrder:
    """The pairs of each step's batch: a function of the seed and the step alone.

    An epoch's batches hold every pair at most as often as `times` says; what does not fill a batch is left out, other
    pairs every time.

    Parameters
    ----------
    n_edges, times
        ``(N,)`` edges of the pairs, and how often an epoch takes each; by default once.
    batch_size
        Pairs in a batch; at most N.
    seed
        Of the order.
    balanced
        Rank the epoch's pairs by their edges, cut the ranking into `batch_size` classes of equal numbers, and draw each
        batch with one pair of every class.
    """

    def __init__(
        self,
        n_edges: NDArray[np.int64],
        batch_size: int,
        seed: int,
        balanced: bool,
        times: NDArray[np.int64] | int = 1,
    ):
        self.n_edges, self.batch_size, self.seed, self.balanced = n_edges, batch_size, seed, balanced
        self._pairs = np.repeat(np.arange(len(n_edges)), times)
        self._epoch, self._batches = -1, np.empty((0, 0), dtype=np.int64)

    def of(self, step: int) -> NDArray[np.int64]:
        """Return the pairs of the batch of `step` (from 0)."""
        epoch, index = divmod(step, len(self._pairs) // self.batch_size)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._of_epoch(epoch)
        return self._batches[index]

    def _of_epoch(self, epoch: int) -> NDArray[np.int64]:
        """Return the ``(B, batch_size)`` batches of an epoch."""
        rng = np.random.default_rng([self.seed, epoch])
        n_batches = len(self._pairs) // self.batch_size
        order = rng.permutation(self._pairs)[: n_batches * self.batch_size]
        if not self.balanced:
            return order.reshape(n_batches, self.batch_size)
        ranked = order[np.argsort(self.n_edges[order], kind='stable')]
        return rng.permuted(ranked.reshape(self.batch_size, n_batches), axis=1).T


def times_an_epoch(source: NDArray[np.str_], oversampling: Mapping[str, int]) -> NDArray[np.int64]:
    """Return how often an epoch takes each of the pairs whose data sets are `source` ``(N,)``.

    Raises TrainingError where `oversampling` names a set that is not among them.
    """
    times = np.ones(len(source), dtype=np.int64)
    for name, number in oversampling.items():
        if name not in source:
            known = [str(known) for known in np.unique(source)]
            raise TrainingError(
                f'oversampling: no pair to train on is of the data set {name!r}{suggestion(name, known)}'
            )
        times[source == name] = number
    return times


@torch.no_grad()
def validation_errors(
    model: RelaxationModel,
    pairs: PreparedPairs,
    settings: LossSettings = DEFAULT_LOSS,
    processes: TrainingProcesses = ALONE,
    is_balanced: bool = False,
) -> Tensor:
    """Return the mean over `pairs` of the last layer's coordinate and cell errors ``(2,)``, in A.

    The coordinates' errors are those that `settings` name. Where it `is_balanced`, it is the mean over data sets of
    their means.
    """
    weight = torch.full((len(pairs), 1), 1 / len(pairs), dtype=torch.float64, device=pairs.device)
    if is_balanced:
        _, of_pair, counts = np.unique(pairs.source, return_inverse=True, return_counts=True)
        weight = torch.as_tensor(1 / (len(counts) * counts[of_pair]), device=pairs.device)[:, None]
    by_size = processes.share(torch.argsort(pairs.n_atoms, stable=True).cpu().numpy())
    total = torch.zeros(2, dtype=torch.float64, device=pairs.device)
    for start in range(0, len(by_size), VALIDATION_BATCH):
        indices = by_size[start : start + VALIDATION_BATCH]
        batch, target = pairs.select(indices)
        total += (
            model.loss(batch, target, settings)[1].double() * weight[torch.as_tensor(indices, device=pairs.device)]
        ).sum(dim=0)
    return processes.total(total).cpu()
