"""The angular gate of E3Relax-H2 as published."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from aiida_e3relax.gnn.layers import ScaledSiLU, solid_invariants
from aiida_e3relax.gnn.models.published.edges import Edges

SMOOTHING = 1e-9**0.5
"""Added in quadrature to the length of a mean direction that is to be normalised."""

SHORTEST_MEAN = 5e-5
"""A mean direction whose length, so smoothed, is less gives no reference direction."""


class AngularGate(nn.Module):
    """Factors of the filters from the angle between an edge and its centre's mean direction (E3Relax-H2, eqs. 10-13).

    The invariants are those of `solid_invariants` for unit vectors: Legendre polynomials. Where the mean direction
    vanishes the Cartesian x axis stands in, which breaks rotational symmetry at sites of high symmetry. `l_max` is
    their highest degree.
    """

    def __init__(self, features: int, l_max: int):
        super().__init__()
        self.l_max = l_max
        self.norm = nn.LayerNorm(l_max + 1)
        self.linear = nn.Linear(l_max + 2, 3 * features)
        self.activation = ScaledSiLU()

    def forward(self, edges: Edges, n_atoms_total: int) -> Tensor:
        """Return the gate ``(E, 3F)``."""
        reference = self.references(edges, n_atoms_total)[edges.centre]
        cosine = (edges.direction * reference).sum(dim=1)
        return self.factors(cosine, solid_invariants(normalize(edges.direction), normalize(reference), self.l_max))

    def references(self, edges: Edges, n_atoms_total: int) -> Tensor:
        """Return the reference directions ``(A, 3)``."""
        direction = edges.direction
        counted = torch.cat([direction, torch.ones_like(direction[:, :1])], dim=1)
        total = direction.new_zeros(n_atoms_total, 4).index_add(0, edges.centre, counted)
        mean = total[:, :3] / total[:, 3:].clamp_min(1)
        length = (mean.square().sum(dim=1, keepdim=True) + SMOOTHING**2).sqrt()
        x_axis = torch.eye(1, 3, dtype=mean.dtype, device=mean.device)
        return torch.where(length < SHORTEST_MEAN, x_axis, mean / length)

    def factors(self, cosine: Tensor, invariants: Tensor) -> Tensor:
        """Return the gate ``(E, 3F)`` of cosines ``(E,)`` and their Legendre polynomials ``(E, l_max + 1)``."""
        arguments = self.linear(torch.cat([cosine[:, None], self.norm(invariants)], dim=1))
        return 1 + torch.tanh(self.activation(arguments))
