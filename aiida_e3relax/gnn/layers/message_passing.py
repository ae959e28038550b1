"""High-degree, high-order message passing between atoms (E3Relax-H2, eqs. 10-16)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aiida_e3relax.gnn.layers.activation import perceptron
from aiida_e3relax.gnn.layers.basis import solid_invariants
from aiida_e3relax.gnn.layers.edge_geometry import EdgeGeometry


class HighDegreeMessagePassing(nn.Module):
    """Scalar and vector messages from neighbours, gated by angular invariants up to degree `l_max`; 0 means no gate.

    The filters of radius and angle multiply the neighbour's features (eq. 14). The radial filter has no bias, so a
    message vanishes with its edge at the cutoff.
    """

    def __init__(self, features: int, radial_functions: int, l_max: int):
        super().__init__()
        self.features = features
        self.l_max = l_max
        self.source = perceptron(features, features // 2, 3 * features)
        self.radial_filter = nn.Linear(radial_functions, 3 * features, bias=False)
        self.angular_gate = nn.Linear(l_max + 1, features) if l_max else None

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
        return self.sums(self.source(x).view(-1, 3, self.features), None if first else v, edges)

    def sums(self, source: Tensor, v: Tensor | None, edges: EdgeGeometry) -> tuple[Tensor, Tensor]:
        """Return the sums of messages that neighbours send: `source` ``(A, 3, F)``, and `v` where it is not zero."""
        n, f = edges.n_atoms_total, self.features
        filters = self.radial_filter(edges.radial).view(-1, 3, f)
        if self.angular_gate is not None:
            invariants = solid_invariants(edges.direction, edges.reference[edges.centre], self.l_max)
            filters = filters * (1 + torch.tanh(self.angular_gate(invariants)))[:, None]
        messages = source.index_select(0, edges.neighbour) * filters * 3**-0.5
        to_vector, along_edge, to_scalar = messages.unbind(dim=1)
        vector = along_edge[:, None] * edges.direction[:, :, None]
        if v is not None:
            vector = vector + to_vector[:, None] * v.index_select(0, edges.neighbour)
        dx = source.new_zeros(n, f).index_add(0, edges.centre, to_scalar)
        dv = source.new_zeros(n, 3, f).index_add(0, edges.centre, vector)
        return dx, dv * f**-0.5
