"""Linear maps and the norm of features that have degrees l, and orders m along an edge."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aiida_e3relax.gnn.models.equiformer_v2.edge_frames import Orders


def linear(inputs: int, outputs: int, bias: bool, variance: float = 1.0) -> nn.Linear:
    """Return a linear map whose outputs at first have `variance` where its inputs have 1."""
    made = nn.Linear(inputs, outputs, bias)
    nn.init.normal_(made.weight, std=(variance / inputs) ** 0.5)
    return made


class SO3Linear(nn.Module):
    """A linear map of channels for each degree; that of degree 0 has a bias."""

    def __init__(self, inputs: int, outputs: int, l_max: int, variance: float = 1.0):
        super().__init__()
        self.degrees = nn.ModuleList(linear(inputs, outputs, degree == 0, variance) for degree in range(l_max + 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return features ``(A, (l_max + 1)^2, outputs)`` from `x` ``(A, (l_max + 1)^2, inputs)``."""
        parts = [own(x[:, degree**2 : (degree + 1) ** 2]) for degree, own in enumerate(self.degrees)]
        return torch.cat(parts, dim=1)


class SO2Linear(nn.Module):
    """A linear map of features in the frame of an edge that turns with them about the edge: eSCN's convolution.

    Orders do not mix, degrees and channels do. In order m > 0 the pair of +m and -m is a complex number and the weights
    are complex. Their imaginary parts tell left from right: without them the map follows reflections, too.
    """

    def __init__(self, inputs: int, outputs: int, orders: Orders, chiral: bool, scalars: int = 0):
        super().__init__()
        self.outputs, self.scalars = outputs, scalars
        self.degrees = [orders.degrees(m) for m in range(orders.m_max + 1)]
        parts = 2 if chiral else 1
        self.zero = linear(self.degrees[0] * inputs, self.degrees[0] * outputs + scalars, bias=True)
        self.orders = nn.ModuleList(
            linear(degrees * inputs, parts * degrees * outputs, bias=False, variance=1 / parts)
            for degrees in self.degrees[1:]
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features ``(E, K, outputs)``, as `Orders` sorts them, and scalars ``(E, scalars)``."""
        start = self.degrees[0]
        features, scalars = self.zero(x[:, :start].flatten(1)).split([start * self.outputs, self.scalars], dim=1)
        found = [features.unflatten(1, (start, self.outputs))]
        for degrees, own in zip(self.degrees[1:], self.orders, strict=True):
            pair = own(x[:, start : start + 2 * degrees].unflatten(1, (2, degrees)).flatten(2))
            if pair.shape[2] > degrees * self.outputs:
                real, imaginary = pair.chunk(2, dim=2)
                turned = torch.stack([-imaginary[:, 1], imaginary[:, 0]], dim=1)
                pair = real + turned
            found.append(pair.unflatten(2, (degrees, self.outputs)).flatten(1, 2))
            start += 2 * degrees
        return torch.cat(found, dim=1), scalars


class SeparableLayerNorm(nn.Module):
    """Layer norm of the scalars; apart from them, all higher degrees are divided by one root mean square.

    Each degree counts alike in the mean, whatever its number of components. One is added to the mean square, where the
    authors have 1e-5: at a site whose symmetry leaves no direction, higher degrees are rounding noise, and norm after
    norm would make it as large as the scalars.
    """

    degree: Tensor

    def __init__(self, features: int, l_max: int):
        super().__init__()
        self.scalars = nn.LayerNorm(features)
        self.weight = nn.Parameter(torch.ones(l_max, features))
        degree = torch.tensor([d for d in range(l_max) for _ in range(2 * d + 3)], device='cpu')
        share = [1 / ((2 * d + 3) * l_max) for d in range(l_max) for _ in range(2 * d + 3)]
        self.register_buffer('degree', degree, persistent=False)
        self.register_buffer('share', torch.tensor(share, dtype=torch.float64, device='cpu'), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features ``(A, (l_max + 1)^2, F)``, normalised."""
        higher = x[:, 1:]
        square = torch.einsum('ank,ank,n->a', higher, higher, self.share.to(x.dtype)) / x.shape[2]
        scaled = higher * torch.rsqrt(1 + square)[:, None, None] * self.weight[self.degree]
        return torch.cat([self.scalars(x[:, :1]), scaled], dim=1)
