"""High-degree, high-order message passing between atoms (E3Relax-H2, eqs. 10-16)."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from aiida_e3relax.gnn.layers.activation import perceptron
from aiida_e3relax.gnn.layers.angular import solid_invariants


@dataclasses.dataclass(frozen=True)
class EdgeGeometry:
    """What the layers need to know of the E edges, recomputed from the coordinates in every layer.

    Attributes
    ----------
    centre, neighbour
        ``(E,)`` atom indices.
    radial
        ``(E, K)`` radial basis of the distance.
    direction
        ``(E, 3)`` unit vectors from neighbour to centre.
    invariants
        ``(E, l_max + 1)`` angular invariants against the centre's reference direction.
    """

    centre: Tensor
    neighbour: Tensor
    radial: Tensor
    direction: Tensor
    invariants: Tensor

    @staticmethod
    def of(
        vectors: Tensor,
        centre: Tensor,
        neighbour: Tensor,
        radial_basis: nn.Module,
        n_atoms_total: int,
        l_max: int,
    ) -> EdgeGeometry:
        """Return the geometry of edges whose `vectors` ``(E, 3)`` point from centre to neighbour, in A.

        The reference direction of an atom is the mean of its edges' directions (eq. 10), weighted by the radial
        envelope so that edges come and go smoothly, and not normalised: see `solid_invariants`.
        """
        distance = vectors.norm(dim=1)
        radial, envelope = radial_basis(distance)
        direction = -vectors / distance.clamp_min(1e-6)[:, None]
        weighted = direction * envelope[:, None]
        total = direction.new_zeros(n_atoms_total, 4).index_add(
            0, centre, torch.cat([weighted, envelope[:, None]], dim=1)
        )
        reference = total[:, :3] / (total[:, 3:] + 1e-3)
        invariants = solid_invariants(direction, reference[centre], l_max)
        return EdgeGeometry(centre, neighbour, radial, direction, invariants)


class HighDegreeMessagePassing(nn.Module):
    """Scalar and vector messages from neighbours, gated by high-degree angular invariants.

    The filters of radius and angle multiply the neighbour's features (eq. 14). The radial filter has no bias, so a
    message vanishes with its edge at the cutoff.
    """

    def __init__(self, features: int, radial_functions: int, l_max: int):
        super().__init__()
        self.features = features
        self.source = perceptron(features, features // 2, 3 * features)
        self.radial_filter = nn.Linear(radial_functions, 3 * features, bias=False)
        self.angular_gate = nn.Linear(l_max + 1, features)

    def forward(self, x: Tensor, v: Tensor, edges: EdgeGeometry, first: bool) -> tuple[Tensor, Tensor]:
        """Return the sums of messages to scalars ``(A, F)`` and vectors ``(A, 3, F)``.

        Parameters
        ----------
        x, v
            Scalar ``(A, F)`` and vector ``(A, 3, F)`` features.
        edges
            Geometry of the edges.
        first
            True while all vectors are still zero: their messages are skipped.
        """
        n, f = len(x), self.features
        gate = 1 + torch.tanh(self.angular_gate(edges.invariants))
        filters = self.radial_filter(edges.radial).view(-1, 3, f) * gate[:, None]
        messages = self.source(x).view(-1, 3, f).index_select(0, edges.neighbour) * filters * 3**-0.5
        to_vector, along_edge, to_scalar = messages.unbind(dim=1)
        vector = along_edge[:, None] * edges.direction[:, :, None]
        if not first:
            vector = vector + to_vector[:, None] * v.index_select(0, edges.neighbour)
        dx = x.new_zeros(n, f).index_add(0, edges.centre, to_scalar)
        dv = x.new_zeros(n, 3, f).index_add(0, edges.centre, vector)
        return dx, dv * f**-0.5
