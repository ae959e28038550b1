"""Linear maps, where that is faster through oneDNN: on processors that are not Intel's it is about twice as fast."""

from __future__ import annotations

import functools
from pathlib import Path

import torch
from torch import Tensor, nn

from aiida_e3relax.gnn.engine.weight_cache import cached

PROCESSORS = Path('/proc/cpuinfo')


def has_onednn() -> bool:
    """Return whether this PyTorch brings the maps of oneDNN."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, '_linear_pointwise')


@functools.cache
def takes_onednn() -> bool:
    """Return whether linear maps go through oneDNN: PyTorch's default, MKL, is made for the processors of Intel."""
    return has_onednn() and not is_intel(PROCESSORS)


def is_intel(processors: Path) -> bool:
    """Return whether the file in which Linux describes its processors names Intel; False where there is none."""
    try:
        return 'GenuineIntel' in processors.read_text(encoding='utf-8', errors='replace')
    except OSError:
        return False


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return ``x @ weight.T + bias``; `weight` may be packed."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, 'none', [], '')


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        ctx.with_bias = bias is not None
        return _product(x, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        gradient, x = gradient.contiguous(), x.contiguous()  # oneDNN's slowest kernel takes views: a part of features
        rows = gradient.reshape(-1, gradient.shape[-1])
        for_x = _product(gradient, weight.t(), None) if ctx.needs_input_grad[0] else None
        for_weight = _product(rows.t(), x.reshape(-1, x.shape[-1]).t(), None)
        return for_x, for_weight, rows.sum(dim=0) if ctx.with_bias else None


class FastLinear(nn.Linear):
    """A linear map; in single precision on the CPU by the faster library, oneDNN with a cache of packed weights."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the map of `x` ``(..., inputs)``."""
        if x.device.type != 'cpu' or x.dtype != torch.float32 or not x.numel() or not takes_onednn():  # it needs rows
            return super().forward(x)
        if torch.is_grad_enabled():
            return _Linear.apply(x, self.weight, self.bias)
        packed = cached(self, 'packed', (self.weight,), lambda: torch.ops.mkldnn._reorder_linear_weight(self.weight))
        return _product(x, packed, self.bias)
