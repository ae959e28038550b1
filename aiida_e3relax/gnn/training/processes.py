"""The processes of one training run, as torchrun starts them, one a GPU; alone where it did not."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn

from aiida_e3relax.common.errors import DeviceError


@dataclasses.dataclass(frozen=True)
class TrainingProcesses:
    """Process number `rank` of `count`; every method that exchanges something is called by all at once."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def share(self, items: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return this process's part of `items`, dealt out to and fro so that those sorted by size end up alike."""
        turn, place = np.divmod(np.arange(len(items)), self.count)
        return items[np.where(turn % 2, self.count - 1 - place, place) == self.rank]

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of `values` over the processes."""
        if self.count > 1:
            distributed.all_reduce(values)
        return values

    def gathered(self, items: list[str]) -> list[str]:
        """Return the items of all processes together."""
        if self.count == 1:
            return items
        parts: list[list[str]] = [[] for _ in range(self.count)]
        distributed.all_gather_object(parts, items)
        return [item for part in parts for item in part]

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace the gradients by their mean over the processes."""
        if self.count == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        joined = self.total(torch.cat([g.flatten() for g in gradients])) / self.count
        for gradient, part in zip(gradients, joined.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))


ALONE = TrainingProcesses()


@contextmanager
def launched_processes(device: str) -> Iterator[tuple[TrainingProcesses, str]]:
    """Join the processes that torchrun started, for as long as the context lasts; yield them and this one's device.

    They talk through NCCL on GPUs, of which each process takes the one of its local rank, and through Gloo on the CPU.

    Raises
    ------
    DeviceError
        For one `device` of several asked of all processes, and for more processes than GPUs.
    """
    count = int(os.environ.get('WORLD_SIZE', '1'))
    if count == 1:
        yield ALONE, device
        return
    if device.startswith('cuda:'):
        raise DeviceError(f'--device {device} with {count} processes: each takes a GPU of its own; use cuda or auto')
    on_gpus = device == 'cuda' or (device == 'auto' and torch.cuda.is_available())
    if on_gpus:
        device = f'cuda:{os.environ["LOCAL_RANK"]}'
        if int(os.environ['LOCAL_RANK']) >= torch.cuda.device_count():
            raise DeviceError(
                f'process {os.environ["LOCAL_RANK"]} of this machine finds {torch.cuda.device_count()} GPUs: '
                'start as many as there are (torchrun --nproc-per-node)'
            )
        torch.cuda.set_device(device)
    distributed.init_process_group('nccl' if on_gpus else 'gloo')
    try:
        yield TrainingProcesses(distributed.get_rank(), count), device
    finally:
        distributed.destroy_process_group()
