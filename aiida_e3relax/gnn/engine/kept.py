"""What is made from weights once and kept while they stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

_Value = TypeVar('_Value')


def kept(module: nn.Module, name: str, parameters: tuple[Tensor, ...], make: Callable[[], _Value]) -> _Value:
    """Return ``make()`` of `parameters`; while no gradient is wanted, that of the last call if they did not change.

    It is kept in `module` under `name`, outside its state.
    """
    if torch.is_grad_enabled():
        return make()
    mark = tuple((p.data_ptr(), p._version, p.dtype) for p in parameters)
    held = module.__dict__.setdefault('_kept', {})
    if name not in held or held[name][0] != mark:
        held[name] = mark, make()
    return held[name][1]
