"""The activation and the two-layer perceptron that the family uses throughout."""

import torch
from torch import Tensor, nn


class ScaledSiLU(nn.Module):
    """SiLU divided by 0.6, which keeps the variance of a unit normal input."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of `x`, elementwise."""
        return torch.nn.functional.silu(x) * (1 / 0.6)


def perceptron(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Return Linear, activation, Linear."""
    return nn.Sequential(nn.Linear(inputs, hidden), ScaledSiLU(), nn.Linear(hidden, outputs))
