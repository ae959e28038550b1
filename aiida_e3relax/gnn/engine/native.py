"""The compiled kernels (edge_kernels.cpp), called through ctypes, with their gradients."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
from typing import Any

import torch
from torch import Tensor

from aiida_e3relax.gnn.engine.tables import FilterTable

MODULE = 'aiida_e3relax.gnn.engine._edge_kernels'
"""The shared library, built when the package is installed where there is a C++ compiler."""

EDGES_PER_THREAD = 256
"""Fewer edges are not worth another thread."""

_INDICES = ('start', 'neighbour')
_MESSAGE_ARRAYS = ('distance', 'direction', 'projection', 'coefficient', 'gate_table', 'table', 'source', 'vectors')
_MESSAGE_GRADIENTS = ('table', 'source', 'vectors', 'coefficient', 'edge')
_TENSOR_ARRAYS = ('distance', 'angular', 'table', 'source')
_TENSOR_GRADIENTS = ('table', 'source', 'edge')


def _struct(
    real: Any, more_counts: tuple[str, ...], arrays: tuple[str, ...], sums: tuple[str, ...], gradients: tuple[str, ...]
):
    """Return the ctypes structure of a kernel's arguments: see edge_kernels.cpp."""
    counts = ('atoms', 'edges', 'features', 'rows', *more_counts)
    pointers = _INDICES + arrays + sums + tuple(f'{name}_gradient' for name in gradients)
    fields = [(name, ctypes.c_int64) for name in counts]
    fields += [('inverse_spacing', real)] + [(name, ctypes.c_void_p) for name in pointers]
    return type('Arguments', (ctypes.Structure,), {'_fields_': fields})


_TYPES = {torch.float32: ('float', ctypes.c_float), torch.float64: ('double', ctypes.c_double)}
_MESSAGES = {
    dtype: _struct(
        real, ('coefficients', 'gate_rows'), _MESSAGE_ARRAYS, ('scalar_sum', 'vector_sum'), _MESSAGE_GRADIENTS
    )
    for dtype, (_, real) in _TYPES.items()
}
_TENSORS = {
    dtype: _struct(real, ('components',), _TENSOR_ARRAYS, ('sum',), _TENSOR_GRADIENTS)
    for dtype, (_, real) in _TYPES.items()
}


@functools.cache
def library() -> ctypes.CDLL | None:
    """Return the compiled kernels, or None where they were not built."""
    found = importlib.util.find_spec(MODULE)
    return None if found is None or found.origin is None else ctypes.CDLL(found.origin)


def usable(tensor: Tensor) -> bool:
    """Return whether the kernels can work on `tensor`."""
    return tensor.device.type == 'cpu' and tensor.dtype in _TYPES and library() is not None


def kernel(name: str, dtype: torch.dtype) -> Any:
    """Return the compiled kernel `name` for numbers of `dtype`."""
    return getattr(library(), f'{name}_{_TYPES[dtype][0]}')


def _call(name: str, structs: dict[torch.dtype, Any], spacing: float, counts: dict[str, int], **tensors: Any) -> None:
    """Call a kernel on `tensors`, all contiguous and of one floating-point type; None stands for no array."""
    dtype = tensors['distance'].dtype
    pointers = {key: None if t is None else t.data_ptr() for key, t in tensors.items()}
    arguments = structs[dtype](**counts, inverse_spacing=spacing, **pointers)
    threads = max(1, min(torch.get_num_threads(), counts['edges'] // EDGES_PER_THREAD))
    kernel(name, dtype)(ctypes.byref(arguments), ctypes.c_int64(threads))


class _MessageSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx, spacing, start, neighbour, distance, direction, projection, coefficient, table, source, vectors):
        given = (distance, direction, projection, coefficient, None, table, source, vectors)
        arrays = [None if t is None else t.contiguous() for t in given]
        scalar_sum = source.new_empty(source.shape[0], source.shape[2])
        vector_sum = torch.empty_like(source)
        ctx.spacing, ctx.counts = (
            spacing,
            _message_counts(start, neighbour, table, source)
            | {'coefficients': 0 if coefficient is None else coefficient.shape[1]},
        )
        _call(
            'messages', _MESSAGES, spacing, ctx.counts, start=start, neighbour=neighbour,
            **dict(zip(_MESSAGE_ARRAYS, arrays, strict=True)), scalar_sum=scalar_sum, vector_sum=vector_sum,
        )  # fmt: skip
        ctx.save_for_backward(start, neighbour, *arrays)
        return scalar_sum, vector_sum

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, scalar_sum, vector_sum):
        start, neighbour, *arrays = ctx.saved_tensors
        distance, _, _, coefficient, _, table, source, vectors = arrays
        gradients = [None if t is None else torch.zeros_like(t) for t in (table, source, vectors, coefficient)]
        edge = distance.new_zeros(len(distance), 5)
        _call(
            'messages_backward', _MESSAGES, ctx.spacing, ctx.counts, start=start, neighbour=neighbour,
            **dict(zip(_MESSAGE_ARRAYS, arrays, strict=True)),
            scalar_sum=scalar_sum.contiguous(), vector_sum=vector_sum.contiguous(),
            **{f'{name}_gradient': t for name, t in zip(_MESSAGE_GRADIENTS, [*gradients, edge], strict=True)},
        )  # fmt: skip
        table_gradient, source_gradient, vectors_gradient, coefficient_gradient = gradients
        projection_gradient = None if coefficient is None else edge[:, 1]
        return (
            None, None, None, edge[:, 0], edge[:, 2:], projection_gradient, coefficient_gradient,
            table_gradient, source_gradient, vectors_gradient,
        )  # fmt: skip


def _message_counts(start: Tensor, neighbour: Tensor, table: Tensor, source: Tensor) -> dict[str, int]:
    return {'atoms': len(start) - 1, 'edges': len(neighbour), 'features': source.shape[2], 'rows': len(table)}


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
    """Return the sums of messages over each atom's edges: scalars ``(A, F)`` and vectors ``(A, 3, F)``.

    With the filters w(d) ``(3, F)`` of an edge, the neighbour's source h ``(3, F)`` and vectors v ``(3, F)``, and the
    gate g ``(F,)``, the scalar message is ``g w_2 h_2`` and the vector message ``g w_0 h_0 v + u g w_1 h_1``.
    Differentiable in all that are floating-point numbers.

    Parameters
    ----------
    table
        Filters, ``(R, 3 F)``.
    source
        ``(A, 3, F)``.
    vectors
        ``(A, 3, F)``; None while all are zero.
    start
        ``(A + 1,)`` where each atom's edges start; E at the end.
    neighbour, distance, direction
        ``(E,)`` atoms j, ``(E,)`` lengths d in A, ``(E, 3)`` unit vectors u; sorted by centre.
    gate
        ``(E,)`` an edge's p and ``(A, P, F)`` its centre's polynomial c: ``g = 1 + tanh(sum_k c_k p^k)``; None for 1.
    """
    projection, coefficient = gate or (None, None)
    return _MessageSums.apply(
        table.inverse_spacing, start, neighbour, distance, direction, projection, coefficient,
        table.values, source, vectors,
    )  # fmt: skip


def tabulated_message_sums(
    table: FilterTable,
    gate_table: FilterTable,
    source: Tensor,
    vectors: Tensor,
    start: Tensor,
    neighbour: Tensor,
    distance: Tensor,
    direction: Tensor,
    angle: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return the same sums for gates ``(3, F)`` read at `angle` ``(E,)``, in the table's unit; not differentiable."""
    arrays = (distance, direction, angle * gate_table.inverse_spacing, None, gate_table.values, table.values)
    given = [None if t is None else t.contiguous() for t in (*arrays, source, vectors)]
    scalar_sum, vector_sum = source.new_empty(source.shape[0], source.shape[2]), torch.empty_like(source)
    counts = _message_counts(start, neighbour, table.values, source) | {'gate_rows': len(gate_table.values)}
    _call(
        'messages', _MESSAGES, table.inverse_spacing, counts, start=start, neighbour=neighbour,
        **dict(zip(_MESSAGE_ARRAYS, given, strict=True)), scalar_sum=scalar_sum, vector_sum=vector_sum,
    )  # fmt: skip
    return scalar_sum, vector_sum


class _TensorSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx, spacing, start, neighbour, distance, angular, table, source):
        arrays = [t.contiguous() for t in (distance, angular, table, source)]
        counts = {'atoms': len(start) - 1, 'edges': len(neighbour), 'rows': len(table)}
        ctx.counts = counts | {'features': source.shape[1], 'components': angular.shape[1]}
        ctx.spacing = spacing
        total = source.new_empty(len(source), angular.shape[1], source.shape[1])
        _call(
            'tensors', _TENSORS, spacing, ctx.counts, start=start, neighbour=neighbour,
            **dict(zip(_TENSOR_ARRAYS, arrays, strict=True)), sum=total,
        )  # fmt: skip
        ctx.save_for_backward(start, neighbour, *arrays)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, total):
        start, neighbour, *arrays = ctx.saved_tensors
        distance, angular, table, source = arrays
        gradients = [torch.zeros_like(table), torch.zeros_like(source)]
        edge = distance.new_zeros(len(distance), 1 + angular.shape[1])
        _call(
            'tensors_backward', _TENSORS, ctx.spacing, ctx.counts, start=start, neighbour=neighbour,
            **dict(zip(_TENSOR_ARRAYS, arrays, strict=True)), sum=total.contiguous(),
            **{f'{name}_gradient': t for name, t in zip(_TENSOR_GRADIENTS, [*gradients, edge], strict=True)},
        )  # fmt: skip
        return None, None, None, edge[:, 0], edge[:, 1:], *gradients


def tensor_sums(
    table: FilterTable, source: Tensor, start: Tensor, neighbour: Tensor, distance: Tensor, angular: Tensor
) -> Tensor:
    """Return the sums ``(A, M, C)`` over each atom's edges of ``angular_m w(d) y``.

    Parameters
    ----------
    table
        Filters w, ``(R, C)``.
    source
        The neighbour's y, ``(A, C)``.
    start, neighbour, distance
        As for `message_sums`.
    angular
        ``(E, M)`` factors of the components.
    """
    return _TensorSums.apply(table.inverse_spacing, start, neighbour, distance, angular, table.values, source)
