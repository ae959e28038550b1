"""Prediction on a GPU by replay of CUDA graphs.

A forward pass launches several hundred kernels, and for a batch of some tens of crystals launching takes longer than
computing. A CUDA graph launches them all at once, but for one shape of the batch: batches are padded to few shapes.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

from aiida_e3relax.common.out_of_memory import is_out_of_memory
from aiida_e3relax.gnn.engine.padding import BatchShape, padded_batch
from aiida_e3relax.gnn.graph.batch import CrystalBatch, Geometry
from aiida_e3relax.gnn.models.base import RelaxationModel

MOST_EDGES = 1 << 17
"""Larger batches keep the device busy as they are, and padding would cost more than launching."""

MOST_SHAPES = 32
"""Shapes in the cache; the one that was not used for the longest time goes first."""


class ReplayedModel:
    """A model for prediction by CUDA graphs, without gradients, with fixed weights.

    The first batch of a shape runs kernel by kernel, the second is captured, all others are replayed. On the CPU, for
    large batches, and for models that are not `capturable`, every batch runs kernel by kernel. Features of sites are
    returned `with_features` alone.
    """

    def __init__(self, model: RelaxationModel, with_features: bool = False):
        self.model = model
        self.with_features = with_features
        self._capturable = model.capturable
        self._pool: Any = None
        self._captured: OrderedDict[BatchShape, _Captured | None] = OrderedDict()

    def release(self) -> None:
        """Free the memory of the graphs, and what the allocator has cached."""
        self._captured.clear()
        self._pool = None
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    @torch.no_grad()
    def __call__(self, batch: CrystalBatch) -> Geometry:
        """Return the prediction, the model's last geometry."""
        shape = BatchShape.of(batch).padded()
        if not (self._capturable and batch.cell.is_cuda and shape.edges <= MOST_EDGES):
            return self.model(batch)[-1]
        seen = shape in self._captured
        captured = self._captured.pop(shape, None)
        if seen and captured is None:
            captured = self._capture(padded_batch(batch, shape))
        self._captured[shape] = captured
        if len(self._captured) > MOST_SHAPES:
            self._captured.popitem(last=False)
        return self.model(batch)[-1] if captured is None else captured.replay(batch, self.with_features)

    def _capture(self, batch: CrystalBatch) -> _Captured | None:
        """Return the forward pass over `batch` as a graph; None, and a warning, where it cannot be captured."""
        current = torch.cuda.current_stream(batch.cell.device)
        try:
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            return _Captured(self.model, batch, self._pool)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            message = f'{type(self.model).__name__} runs without CUDA graphs, more slowly: {error}'
            warnings.warn(message, RuntimeWarning, stacklevel=3)
            self._capturable = False
            self._pool = None
            return None
        finally:
            torch.cuda.set_stream(current)  # torch leaves its own behind where a capture fails


class _Captured:
    """The forward pass of a model over the tensors of `batch`, which new batches are copied into.

    Graphs share the memory `pool` of their temporaries, results included: those are copied before the next replay.
    """

    def __init__(self, model: RelaxationModel, batch: CrystalBatch, pool: Any):
        self._batch = batch
        self._shape = BatchShape.of(batch)
        stream = torch.cuda.Stream(batch.cell.device)
        stream.wait_stream(torch.cuda.current_stream(batch.cell.device))
        with torch.cuda.stream(stream):
            model(batch)  # libraries and tables set themselves up, which a capture does not allow
        torch.cuda.current_stream(batch.cell.device).wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=pool, stream=stream):
            self._geometry: Geometry = model(batch)[-1]

    def replay(self, batch: CrystalBatch, with_features: bool) -> Geometry:
        """Return the prediction for `batch`, which fits into the captured shape."""
        for held, new in zip(_tensors(self._batch), _tensors(padded_batch(batch, self._shape)), strict=True):
            held.copy_(new)
        self._graph.replay()
        atoms, crystals = len(batch.numbers), len(batch.n_atoms)
        given = self._geometry
        uncertainty = None if given.uncertainty is None else given.uncertainty[:crystals].clone()
        features = None
        if with_features and given.features is not None:
            features = tuple(values[:atoms].clone() for values in given.features)
        return Geometry(given.fractional[:atoms].clone(), given.cell[:crystals].clone(), uncertainty, features)


def _tensors(batch: CrystalBatch) -> list[Tensor]:
    """Return the tensors of `batch`."""
    return [
        getattr(part, field.name)
        for part in (batch, batch.graph)
        for field in dataclasses.fields(part)
        if isinstance(getattr(part, field.name), Tensor)
    ]
