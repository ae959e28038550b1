"""Rotation of features into the frames of edges, where convolutions are maps over the order m (eSCN)."""

from __future__ import annotations

import dataclasses

import torch
from e3nn import o3
from torch import Tensor, nn

LEAST_SLANT = 0.77
"""An edge whose direction has a larger component along x takes its second axis from z: no special direction has it."""


@dataclasses.dataclass(frozen=True)
class Orders:
    """The K coefficients that are kept in the frames of edges: those of orders up to `m_max`, sorted by order.

    First order 0 of all degrees, then for each m > 0 the coefficients +m of degrees m to `l_max`, then those of -m.
    """

    l_max: int
    m_max: int

    @property
    def coefficients(self) -> list[tuple[int, int]]:
        """Degree and order of each coefficient."""
        found = [(degree, 0) for degree in range(self.l_max + 1)]
        for m in range(1, self.m_max + 1):
            found += [(degree, sign * m) for sign in (1, -1) for degree in range(m, self.l_max + 1)]
        return found

    @property
    def numbers(self) -> list[int]:
        """Place of each among all ``(l_max + 1)^2`` coefficients, which are sorted by degree."""
        return [degree**2 + degree + m for degree, m in self.coefficients]

    @property
    def filters(self) -> list[int]:
        """Which radial filter each has: +m and -m of a degree share one, so that convolutions turn with the edge."""
        shared = [(degree, abs(m)) for degree, m in self.coefficients]
        distinct = list(dict.fromkeys(shared))
        return [distinct.index(pair) for pair in shared]

    def degrees(self, m: int) -> int:
        """Return how many degrees have order `m`."""
        return self.l_max + 1 - m


class EdgeFrames(nn.Module):
    """Wigner matrices that turn features into a frame whose polar axis, y in e3nn's convention, lies along the edge.

    The second axis is Cartesian: x, or z where the edge lies near x. What is predicted must not depend on it. Matrices
    come degree by degree from ``D^l = C^T (D^(l-1) x D^1) C`` with Clebsch-Gordan coefficients C of e3nn: polynomials
    of the direction cosines, smooth where Euler angles have poles.
    """

    def __init__(self, orders: Orders):
        super().__init__()
        self.orders = orders
        with torch.device('cpu'):  # numbers, though weights be elsewhere
            for degree in range(2, orders.l_max + 1):
                coupling = o3.wigner_3j(degree - 1, 1, degree, dtype=torch.float64) * (2 * degree + 1) ** 0.5
                self.register_buffer(f'coupling_{degree}', coupling, persistent=False)
            self.register_buffer('kept', torch.tensor(orders.numbers), persistent=False)

    def forward(self, direction: Tensor) -> Tensor:
        """Return the matrices ``(E, K, (l_max + 1)^2)`` of edges along unit vectors `direction` ``(E, 3)``."""
        frame = frames_along(direction)
        matrices = direction.new_zeros(len(direction), (self.orders.l_max + 1) ** 2, (self.orders.l_max + 1) ** 2)
        matrices[:, 0, 0].fill_(1.0)
        matrix = frame
        for degree in range(1, self.orders.l_max + 1):
            if degree > 1:
                coupling = self.get_buffer(f'coupling_{degree}').to(frame.dtype)
                half = torch.einsum('eij,eajn->eain', frame, torch.einsum('eab,bjn->eajn', matrix, coupling))
                matrix = torch.einsum('aim,eain->emn', coupling, half)
            part = slice(degree**2, (degree + 1) ** 2)
            matrices[:, part, part] = matrix
        return matrices[:, self.get_buffer('kept')]


def frames_along(direction: Tensor) -> Tensor:
    """Return right-handed orthonormal axes ``(E, 3, 3)`` as rows x, y, z, with y along `direction` ``(E, 3)``."""
    slanted = direction[:, :1].abs() < LEAST_SLANT
    x_axis, _, z_axis = torch.eye(3, dtype=direction.dtype, device=direction.device)
    helper = torch.where(slanted, x_axis, z_axis)
    first = helper - (helper * direction).sum(dim=1, keepdim=True) * direction
    first = first / first.norm(dim=1, keepdim=True)
    return torch.stack([first, direction, torch.linalg.cross(first, direction)], dim=1)
