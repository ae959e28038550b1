"""A cache of what is computed from weights, such as packed weights and tables, valid while they do not change."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

_Value = TypeVar('_Value')


@dataclasses.dataclass(frozen=True)
class _Seen:
    """A parameter at a moment; its memory is held, so that no other weights can come to lie at its address.

    Changes in place are counted by PyTorch, but for those through ``parameter.data``, which nobody can see.
    """

    parameter: Tensor
    memory: Tensor
    version: int

    @staticmethod
    def of(parameter: Tensor) -> _Seen:
        """Return it as it is now."""
        return _Seen(parameter, parameter.detach(), parameter._version)

    def is_now(self, parameter: Tensor) -> bool:
        """Return whether `parameter` is this one, unchanged."""
        held = self.memory
        return (
            parameter is self.parameter
            and parameter._version == self.version
            and parameter.data_ptr() == held.data_ptr()
            and parameter.dtype == held.dtype
            and parameter.stride() == held.stride()
            and parameter.shape == held.shape
        )


def cached(module: nn.Module, name: str, parameters: tuple[Tensor, ...], make: Callable[[], _Value]) -> _Value:
    """Return what ``make()`` computes from `parameters`: without gradients, the last result if they did not change.

    The cache is in `module` under `name`, outside its state. Weights made under ``torch.inference_mode`` are never
    cached: nobody counts their changes.
    """
    if torch.is_grad_enabled() or any(parameter.is_inference() for parameter in parameters):
        return make()
    held: dict[str, tuple[tuple[_Seen, ...], Any]] = module.__dict__.setdefault('_weight_cache', {})
    seen, value = held.get(name, ((), None))
    if len(seen) != len(parameters) or not all(map(_Seen.is_now, seen, parameters)):
        held.pop(name, None)  # what is made next needs room, too
        value = make()
        held[name] = tuple(map(_Seen.of, parameters)), value
    return value
