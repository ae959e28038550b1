"""The sums over edges on a GPU, by Triton, with their gradients: the contract of `native`, for tensors on the device.

Forward, and for the gradients of edges and of the gate, the result of a run is that of the next. Backward, many atoms
add to one row of the table, of the source and of the vectors, in an order that differs from run to run: those gradients
repeat to rounding only. `usable` gives way to the plain layers where PyTorch's deterministic algorithms are demanded.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from aiida_e3relax.gnn.engine import triton_kernels as kernels
from aiida_e3relax.gnn.engine.tables import FilterTable

BLOCK_BYTES = 512
"""Bytes of one program's features: one load of 16 for each thread of its one warp."""


def usable(tensor: Tensor) -> bool:
    """Return whether the kernels can work on `tensor`, with the same result in every run if that is demanded."""
    repeatable = not (torch.is_grad_enabled() and torch.are_deterministic_algorithms_enabled())
    return tensor.is_cuda and tensor.dtype in (torch.float32, torch.float64) and repeatable


def message_sums(
    table: FilterTable,
    source: Tensor,
    vectors: Tensor | None,
    start: Tensor,
    neighbour: Tensor,
    distance: Tensor,
    direction: Tensor,
    gate: tuple[Tensor, Tensor] | None,
) -> tuple[Tensor, Tensor]:
    """Return what `native.message_sums` returns."""
    projection, coefficient = gate or (None, None)
    place = distance * table.inverse_spacing
    return _MessageSums.apply(
        start, neighbour, place, direction, projection, coefficient, table.values, source, vectors
    )


def tensor_sums(
    table: FilterTable, source: Tensor, start: Tensor, neighbour: Tensor, distance: Tensor, angular: Tensor
) -> Tensor:
    """Return what `native.tensor_sums` returns."""
    return _TensorSums.apply(start, neighbour, distance * table.inverse_spacing, angular, table.values, source)


def try_out(device: torch.device, dtype: torch.dtype, features: int, with_gradient: bool) -> None:
    """Run the kernels for that many features once, over one edge; raises whatever keeps them from running."""
    with torch.inference_mode(False), torch.set_grad_enabled(with_gradient):
        like = torch.ones((), device=device, dtype=dtype)
        start, neighbour = torch.tensor([0, 1], device=device), torch.zeros(1, dtype=torch.int64, device=device)
        distance, direction = like.expand(1).clone(), like.expand(1, 3).clone()
        source = like.expand(1, 3, features).clone().requires_grad_(with_gradient)
        table = FilterTable(like.expand(4, 3 * features).clone(), 0.5)
        gate = distance, like.expand(1, 4, features).clone()
        sums = message_sums(table, source, source, start, neighbour, distance, direction, gate)
        bonds = FilterTable(like.expand(4, features).clone(), 0.5)
        tensor = tensor_sums(bonds, source[:, 0], start, neighbour, distance, like.expand(1, 6).clone())
        if with_gradient:
            torch.autograd.grad([t.sum() for t in (*sums, tensor)], source)
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


class _MessageSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *given):
        inputs = _contiguous(given)
        start, _, _, _, _, coefficient, table, source, _ = inputs
        scalar_sum = source.new_empty(source.shape[0], source.shape[2])
        vector_sum = torch.empty_like(source)
        sizes = _message_sizes(source, coefficient)
        with torch.cuda.device_of(source):
            kernels.messages[_grid(start, sizes)](*inputs, scalar_sum, vector_sum, len(table), **sizes)
        ctx.save_for_backward(*inputs)
        return scalar_sum, vector_sum

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *for_sums):
        inputs = ctx.saved_tensors
        start, neighbour, _, _, _, coefficient, table, source, vectors = inputs
        gradients = [None if t is None else torch.zeros_like(t) for t in (coefficient, table, source, vectors)]
        sizes = _message_sizes(source, coefficient)
        grid = _grid(start, sizes)
        for_edge = source.new_empty(grid[1], len(neighbour), 5)
        with torch.cuda.device_of(source):
            kernels.messages_backward[grid](
                *inputs, *_contiguous(for_sums), *gradients, for_edge, len(table), len(neighbour), **sizes
            )
        for_edge = for_edge.sum(dim=0)
        for_projection = None if coefficient is None else for_edge[:, 1]
        return None, None, for_edge[:, 0], for_edge[:, 2:], for_projection, *gradients


class _TensorSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *given):
        inputs = _contiguous(given)
        start, _, _, angular, table, source = inputs
        total = source.new_empty(len(source), angular.shape[1], source.shape[1])
        sizes = _tensor_sizes(source, angular)
        with torch.cuda.device_of(source):
            kernels.tensors[_grid(start, sizes)](*inputs, total, len(table), **sizes)
        ctx.save_for_backward(*inputs)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, for_total):
        inputs = ctx.saved_tensors
        start, neighbour, _, angular, table, source = inputs
        gradients = [torch.zeros_like(table), torch.zeros_like(source)]
        sizes = _tensor_sizes(source, angular)
        grid = _grid(start, sizes)
        for_edge = source.new_empty(grid[1], len(neighbour), 1 + angular.shape[1])
        with torch.cuda.device_of(source):
            kernels.tensors_backward[grid](
                *inputs, for_total.contiguous(), *gradients, for_edge, len(table), len(neighbour), **sizes
            )
        for_edge = for_edge.sum(dim=0)
        return None, None, for_edge[:, 0], for_edge[:, 1:], *gradients


def _contiguous(tensors: tuple[Tensor | None, ...]) -> list[Any]:
    return [None if t is None else t.contiguous() for t in tensors]


def _message_sizes(source: Tensor, coefficient: Tensor | None) -> dict[str, Any]:
    count = 0 if coefficient is None else coefficient.shape[1]
    padded = triton.next_power_of_2(max(1, count))
    return {'coefficients': count, 'padded_coefficients': padded, **_block_sizes(source)}


def _tensor_sizes(source: Tensor, angular: Tensor) -> dict[str, Any]:
    count = angular.shape[1]
    return {
        'components': count, 'padded_components': triton.next_power_of_2(count), **_block_sizes(source)
    }  # fmt: skip


def _block_sizes(source: Tensor) -> dict[str, Any]:
    features = source.shape[-1]
    block = min(BLOCK_BYTES // source.element_size(), triton.next_power_of_2(features))
    return {'features': features, 'block': block, 'num_warps': 1}


def _grid(start: Tensor, sizes: dict[str, Any]) -> tuple[int, int]:
    """Return the number of programs: atoms, and blocks of features."""
    return len(start) - 1, triton.cdiv(sizes['features'], sizes['block'])
