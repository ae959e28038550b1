"""The time of a prediction, in batches of given numbers of crystals."""

from __future__ import annotations

import time

import numpy as np
import torch

from aiida_e3relax.common.out_of_memory import is_out_of_memory
from aiida_e3relax.crystals.orientation import Frame
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.gnn.engine import native
from aiida_e3relax.gnn.engine.cuda_graphs import ReplayedModel
from aiida_e3relax.gnn.engine.fast_layers import FastMessagePassing, FastPublishedMessagePassing
from aiida_e3relax.gnn.engine.kernels import kernels_for
from aiida_e3relax.gnn.graph.batch import make_batch
from aiida_e3relax.gnn.models.base import RelaxationModel

CRYSTALS = 64
"""At least so many are predicted, in one batch or in several."""

REPEATS = 3
"""Times that a batch is predicted in a row, of which the shortest counts, after one that sets libraries up and one that
captures a CUDA graph: so every one that counts is replayed, also where more shapes of batches than graphs are kept."""


def inference_times(
    model: RelaxationModel, crystals: Crystals, batch_size: int, device: torch.device
) -> dict[str, float] | None:
    """Return the time of a prediction of `model` in ms a crystal: of the neighbour search, and of the network.

    The crystals are drawn at random, always the same ones, more than once where there are fewer than a batch takes.
    What is measured is what `e3relax predict` does between reading and writing, without its checks; the model runs on
    the engine that it has. Returns None where a batch does not fit into the memory of the device.
    """
    count = max(CRYSTALS // batch_size, 1) * batch_size
    rng = np.random.default_rng(0)
    drawn = np.concatenate([rng.permutation(len(crystals)) for _ in range(-(-count // len(crystals)))])[:count]
    replayed = ReplayedModel(model.to(device=device, dtype=torch.float32).eval())
    seconds = np.zeros(2)
    try:
        for part in drawn.reshape(-1, batch_size):
            batch = crystals.select(part)
            times = [_predict(replayed, batch, device) for _ in range(REPEATS + 2)]
            seconds += min(times[2:], key=lambda spent: spent.sum())
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        replayed.release()
        return None
    graph, forward = 1e3 * seconds / count
    return {'graph': float(graph), 'forward': float(forward)}


def has_kernels(model: RelaxationModel, device: torch.device) -> bool:
    """Return whether kernels of this package's own sum the messages of `model` in predictions on `device`.

    That depends on its layers, the engine that they have, and whether the kernels run there.
    """
    for module in model.modules():
        if isinstance(module, FastMessagePassing | FastPublishedMessagePassing):
            with torch.no_grad():
                rows = torch.zeros(1, module.features, device=device)
                published = isinstance(module, FastPublishedMessagePassing)
                return native.usable(rows) if published else kernels_for(rows) is not None
    return False


def _predict(replayed: ReplayedModel, crystals: Crystals, device: torch.device) -> np.ndarray:
    """Return the seconds ``(2,)`` of the neighbour search and of the network for one batch."""
    start = time.perf_counter()
    turned = Frame.of(crystals, standard=replayed.model.standard_orientation).turned(crystals)
    batch = make_batch(turned, replayed.model.graph, device)
    _wait(device)
    middle = time.perf_counter()
    geometry = replayed(batch)
    geometry.fractional.cpu(), geometry.cell.cpu()
    return np.array([middle - start, time.perf_counter() - middle])


def _wait(device: torch.device) -> None:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
