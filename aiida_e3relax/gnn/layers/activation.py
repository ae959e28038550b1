"""The activation and the perceptron that the family uses throughout."""

import itertools

import torch
from torch import Tensor, nn

LARGEST_FEATURE = 30.0
"""Bound of the root mean square of an atom's or an edge's features; in trained networks it is of order 1."""


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


def limited(features: Tensor) -> Tensor:
    """Return `features` ``(N, ...)``, those of each of N shortened to the RMS `LARGEST_FEATURE` where theirs is larger.

    A norm that only what is far from the training data meets: others stay as they are, to the last bit. Layers whose
    features multiply each other need it, since twice the usual features become a million times the usual ones a few
    layers on. What is shortened keeps its direction, which still learns. Equivariant, as all components count alike.
    """
    excess = features.square().mean(dim=tuple(range(1, features.ndim)), keepdim=True) / LARGEST_FEATURE**2
    return features * torch.rsqrt(excess.clamp_min(1))


def perceptron(*widths: int) -> nn.Sequential:
    """Return linear maps between `widths` in turn, with the activation between them."""
    modules: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        modules += [nn.Linear(inputs, outputs), ScaledSiLU()]
    return nn.Sequential(*modules[:-1])
