"""Features of several degrees l, each with its 2l + 1 components along one axis, as e3nn orders them."""

from __future__ import annotations

import torch
from torch import Tensor


def components(degrees: range) -> list[int]:
    """Return how many components each of `degrees` has: where an axis that holds them one after the other is split."""
    return [2 * degree + 1 for degree in degrees]


def scaled_by_degree(values: Tensor, factors: Tensor, degrees: range) -> Tensor:
    """Return `values` ``(N, D, ...)``, D the components of `degrees`, times the degree's ``(N, L, ...)`` of factors."""
    parts = zip(values.split(components(degrees), dim=1), factors.split(1, dim=1), strict=True)
    return torch.cat([part * factor for part, factor in parts], dim=1)


def sums_by_degree(values: Tensor, degrees: range) -> Tensor:
    """Return the sums ``(N, L, ...)`` over the components of each degree of `values` ``(N, D, ...)``."""
    return torch.stack([part.sum(dim=1) for part in values.split(components(degrees), dim=1)], dim=1)
