"""Radial basis of interatomic distances."""

import torch
from torch import Tensor, nn


class RadialBasis(nn.Module):
    """Gaussians of the scaled distance times a polynomial envelope that ends smoothly at the cutoff.

    With x = d / cutoff: ``exp(-(x - mu_k)^2 / (2 (mu_1 - mu_0)^2))`` for `functions` centres evenly on [0, 1], times
    ``1 - 21 x^5 + 35 x^6 - 15 x^7`` (Gasteiger et al., ICLR 2020, eq. 8, with p = 5), zero from the cutoff on.
    """

    centres: Tensor

    def __init__(self, functions: int, cutoff: float):
        super().__init__()
        self.cutoff = cutoff
        centres = torch.linspace(0.0, 1.0, functions, dtype=torch.float64, device='cpu')  # though weights be elsewhere
        self.coefficient = -0.5 / float(centres[1] - centres[0]) ** 2
        self.register_buffer('centres', centres.to(torch.get_default_dtype()), persistent=False)

    def forward(self, distance: Tensor) -> Tensor:
        """Return the basis ``(E, K)`` at `distance` ``(E,)`` in A."""
        x = (distance / self.cutoff)[:, None]
        gaussians = torch.exp(self.coefficient * (x - self.centres.to(x.dtype)) ** 2)
        return gaussians * self.envelope(distance)[:, None]

    def envelope(self, distance: Tensor) -> Tensor:
        """Return the envelope ``(E,)`` at `distance` ``(E,)`` in A."""
        x = distance / self.cutoff
        return torch.where(x < 1, 1 + x**5 * (-21 + x * (35 - 15 * x)), 0.0)
