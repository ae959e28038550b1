"""The activation and the perceptron that the family uses throughout."""

import itertools

import torch
from torch import Tensor, nn


class ScaledSiLU(nn.Module):
    """SiLU divided by 0.6, which keeps the variance of a unit normal input."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of `x`, elementwise."""
        return torch.nn.functional.silu(x) * (1 / 0.6)


def bounded(values: Tensor, bound: float, dim: int | tuple[int, ...]) -> Tensor:
    """Return `values` shortened smoothly so that their norm over `dim` stays below `bound`; short ones hardly change.

    Keeps what is far from the training data from growing layer by layer. Equivariant where `dim` holds all Cartesian
    axes.
    """
    squared = (values * values).sum(dim=dim, keepdim=True)
    return values * torch.rsqrt(1 + squared / bound**2)


def perceptron(*widths: int) -> nn.Sequential:
    """Return linear maps between `widths` in turn, with the activation between them."""
    modules: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        modules += [nn.Linear(inputs, outputs), ScaledSiLU()]
    return nn.Sequential(*modules[:-1])
