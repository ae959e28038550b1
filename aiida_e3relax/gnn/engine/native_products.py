"""Products of lattice tensors and atoms' vectors by the compiled kernels, with their gradients.

The two kernels are each other's adjoint: the gradient of a sum of dyads is a product with a tensor, and the other way
round.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from aiida_e3relax.gnn.engine import native
from aiida_e3relax.gnn.layers import bounded

ATOMS_PER_THREAD = 64
"""Fewer atoms are not worth another thread."""

_COUNTS = ('structures', 'features', 'left_stride', 'right_stride', 'share_stride', 'transposed', 'shortened')
_POINTERS = ('first_atom', 'left', 'right', 'tensor', 'keep', 'turn', 'product')


class _Arguments(ctypes.Structure):
    """The arguments of the kernels: see `Products` in edge_kernels.cpp."""

    _fields_ = [(name, ctypes.c_int64) for name in _COUNTS] + [(name, ctypes.c_void_p) for name in _POINTERS]


def _call(kernel: str, first_atom: Tensor, product: Tensor, right: Tensor, **more: Any) -> Tensor:
    tensors = {'first_atom': first_atom, 'product': product, 'right': right}
    tensors |= {name: value for name, value in more.items() if isinstance(value, Tensor)}
    flags = {name: int(value) for name, value in more.items() if not isinstance(value, Tensor)}
    strides = {f'{name}_stride': tensors[name].stride(1) for name in ('left', 'right') if name in tensors}
    pointers = {name: tensor.data_ptr() for name, tensor in tensors.items()}
    arguments = _Arguments(structures=len(first_atom) - 1, features=product.shape[-1], **strides, **flags, **pointers)
    threads = max(1, min(torch.get_num_threads(), len(right) // ATOMS_PER_THREAD))
    native.kernel(kernel, product.dtype)(ctypes.byref(arguments), ctypes.c_int64(threads))
    return product


def _dyads(first_atom: Tensor, left: Tensor, right: Tensor, shortened: bool = False) -> Tensor:
    """Return the sums ``(S, 3, 3, F)`` of left times right, ``(A, 3, F)``; their rows may be parts of wider ones."""
    left, right = _rows(left), _rows(right)
    product = left.new_empty(len(first_atom) - 1, 3, 3, left.shape[2])
    return _call('dyads', first_atom, product, right, left=left, shortened=shortened)


def _turned(first_atom: Tensor, tensor: Tensor, right: Tensor, transposed: bool = False) -> Tensor:
    """Return the products ``(A, 3, F)`` of `tensor` ``(S, 3, 3, F)``, or its transpose, and `right`."""
    right = _rows(right)
    product = right.new_empty(right.shape)
    return _call('turns', first_atom, product, right, tensor=tensor.contiguous(), transposed=transposed)


def _rows(vectors: Tensor) -> Tensor:
    """Return `vectors` ``(A, 3, F)`` as the kernels can read them: features close, and components evenly apart."""
    even = vectors.stride(2) == 1 and vectors.stride(0) == 3 * vectors.stride(1)
    return vectors if even else vectors.contiguous()


class _Dyads(torch.autograd.Function):
    @staticmethod
    def forward(ctx, first_atom, left, right):
        ctx.save_for_backward(first_atom, left, right)
        return _dyads(first_atom, left, right)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        first_atom, left, right = ctx.saved_tensors
        return None, _turned(first_atom, gradient, right), _turned(first_atom, gradient, left, transposed=True)


class _Turned(torch.autograd.Function):
    @staticmethod
    def forward(ctx, first_atom, tensor, vectors):
        ctx.save_for_backward(first_atom, tensor, vectors)
        return _turned(first_atom, tensor, vectors)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        first_atom, tensor, vectors = ctx.saved_tensors
        return None, _dyads(first_atom, gradient, vectors), _turned(first_atom, tensor, gradient, transposed=True)


def dyad_sums(first_atom: Tensor, vectors: Tensor) -> Tensor:
    """Return the sums ``(S, 3, 3, F)`` over a structure's atoms of left times right, shortened to below one.

    Parameters
    ----------
    first_atom
        ``(S + 1,)`` where each structure's atoms start; A at the end.
    vectors
        ``(A, 3, 2F)``: left and right, each to be shortened by `bounded` to 1.
    """
    left, right = vectors.chunk(2, dim=2)
    if not torch.is_grad_enabled():
        return _dyads(first_atom, left, right, shortened=True)
    left, right = bounded(vectors, 1.0, dim=1).chunk(2, dim=2)
    return _Dyads.apply(first_atom, left, right)


def turned_in_part(first_atom: Tensor, tensor: Tensor, vectors: Tensor, keep: Tensor, turn: Tensor) -> Tensor:
    """Return ``(1 + keep) v + turn T v`` of each structure's `tensor` T and its atoms' `vectors` v.

    Parameters
    ----------
    first_atom
        As for `dyad_sums`.
    tensor, vectors
        ``(S, 3, 3, F)`` and ``(A, 3, F)``.
    keep, turn
        ``(A, F)`` shares of an atom; parts of one wider array.
    """
    if torch.is_grad_enabled():
        return vectors + keep[:, None] * vectors + turn[:, None] * _Turned.apply(first_atom, tensor, vectors)
    product, right, tensor = vectors.new_empty(vectors.shape), _rows(vectors), tensor.contiguous()
    shares = {'keep': keep, 'turn': turn, 'share_stride': keep.stride(0)}
    return _call('turns', first_atom, product, right, tensor=tensor, **shares)
