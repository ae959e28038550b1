"""Activations of features that have degrees: pointwise on the sphere, or by gates."""

from __future__ import annotations

import numpy as np
import torch
from e3nn import o3
from torch import Tensor, nn


class SeparableS2Activation(nn.Module):
    """SiLU on the sphere for degrees above 0, and SiLU of scalars of their own for degree 0.

    Features are the coefficients of a function on the sphere; SiLU acts on its values at the points of a grid, which
    are expanded again. SiLU of a function has all degrees, and those that the grid does not resolve come back as lower
    ones: the result turns with the features to the accuracy of the grid. The grid is Gauss-Legendre in the cosine of
    the polar angle and even in the azimuth, twice as fine in both as the features need.

    Parameters
    ----------
    coefficients
        Degree and order of each feature; the first is (0, 0).
    """

    def __init__(self, coefficients: list[tuple[int, int]]):
        super().__init__()
        l_max, m_max = (max(abs(pair[kind]) for pair in coefficients) for kind in (0, 1))
        to_grid, from_grid = _sphere_grid(l_max, 2 * (l_max + 1), 2 * (2 * m_max + 1))
        kept = [degree**2 + degree + order for degree, order in coefficients]
        self.register_buffer('to_grid', to_grid[:, kept], persistent=False)
        self.register_buffer('from_grid', from_grid[kept], persistent=False)

    @staticmethod
    def gates(l_max: int, features: int) -> int:
        """Return how many scalars the activation needs beside the features."""
        return features

    def forward(self, x: Tensor, scalars: Tensor) -> Tensor:
        """Return the activation of `x` ``(..., K, F)``, with ``(..., F)`` scalars."""
        to_grid, from_grid = self.get_buffer('to_grid').to(x.dtype), self.get_buffer('from_grid').to(x.dtype)
        values = nn.functional.silu(torch.matmul(to_grid, x))
        return torch.cat([nn.functional.silu(scalars)[..., None, :], torch.matmul(from_grid[1:], values)], dim=-2)


class GateActivation(nn.Module):
    """SiLU of degree 0; each higher degree times a sigmoid of a scalar of its own. Follows rotations exactly.

    Parameters
    ----------
    coefficients
        Degree and order of each feature; the first is (0, 0).
    """

    def __init__(self, coefficients: list[tuple[int, int]]):
        super().__init__()
        self.l_max = max(degree for degree, _ in coefficients)
        gate = torch.tensor([degree - 1 for degree, _ in coefficients[1:]], device='cpu')
        self.register_buffer('gate', gate, persistent=False)

    @staticmethod
    def gates(l_max: int, features: int) -> int:
        """Return how many scalars the activation needs beside the features."""
        return l_max * features

    def forward(self, x: Tensor, scalars: Tensor) -> Tensor:
        """Return the activation of `x` ``(..., K, F)``, with ``(..., l_max F)`` scalars."""
        gates = torch.sigmoid(scalars).unflatten(-1, (self.l_max, -1))[..., self.get_buffer('gate'), :]
        return torch.cat([nn.functional.silu(x[..., :1, :]), gates * x[..., 1:, :]], dim=-2)


ACTIVATIONS: dict[str, type[SeparableS2Activation | GateActivation]] = {
    's2': SeparableS2Activation,
    'gate': GateActivation,
}


def _sphere_grid(l_max: int, polar: int, azimuths: int) -> tuple[Tensor, Tensor]:
    """Return the matrices from coefficients to grid points ``(G, N)`` and back ``(N, G)``, in float64 on the CPU."""
    cosine, weight = np.polynomial.legendre.leggauss(polar)
    azimuth = 2 * np.pi * np.arange(azimuths) / azimuths
    sine = np.sqrt(1 - cosine**2)[:, None]
    points = [sine * np.sin(azimuth), np.broadcast_to(cosine[:, None], (polar, azimuths)), sine * np.cos(azimuth)]
    with torch.device('cpu'):
        harmonics = o3.spherical_harmonics(
            list(range(l_max + 1)),
            torch.from_numpy(np.stack(points, axis=-1).reshape(-1, 3)),
            normalize=False,
            normalization='integral',
        )
        areas = torch.from_numpy(np.repeat(weight, azimuths) * (2 * np.pi / azimuths))
        return harmonics, (harmonics * areas[:, None]).T.contiguous()
