"""Message passing between atoms as the three published models have it in common."""

from __future__ import annotations

from torch import Tensor, nn

from aiida_e3relax.gnn.layers import RadialBasis, perceptron
from aiida_e3relax.gnn.models.published.angular_gate import AngularGate
from aiida_e3relax.gnn.models.published.edges import Edges


class MessagePassing(nn.Module):
    """Scalar and vector messages from neighbours, filtered by features of the edge (PaiNN's, scaled)."""

    def __init__(self, features: int, edge_features: int):
        super().__init__()
        self.features = features
        self.source = perceptron(features, features // 2, 3 * features)
        self.edge_filter = nn.Linear(edge_features, 3 * features)

    def forward(self, x: Tensor, v: Tensor, edges: Edges, edge_features: Tensor) -> tuple[Tensor, Tensor]:
        """Return scalars ``(A, F)`` and vectors ``(A, 3, F)`` with the sums of messages added.

        Parameters
        ----------
        x, v
            Scalar ``(A, F)`` and vector ``(A, 3, F)`` features.
        edges
            Geometry of the edges.
        edge_features
            ``(E, K)`` what the filters are made from.
        """
        return self._with_messages(x, v, edges, self.edge_filter(edge_features))

    def radial(
        self, x: Tensor, v: Tensor, edges: Edges, radial_basis: RadialBasis, gate: AngularGate | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the same for filters of the distance alone, times the angular `gate` where there is one."""
        filters = self.edge_filter(radial_basis(edges.length))
        if gate is not None:
            filters = filters * gate(edges, len(x))
        return self._with_messages(x, v, edges, filters)

    def _with_messages(self, x: Tensor, v: Tensor, edges: Edges, filters: Tensor) -> tuple[Tensor, Tensor]:
        """Return `x` and `v` with the sums of messages added, for `filters` ``(E, 3F)``."""
        messages = self.source(x)[edges.neighbour] * filters * 3**-0.5
        to_vector, along_edge, to_scalar = messages.split(self.features, dim=-1)
        vector = to_vector[:, None] * v[edges.neighbour] + along_edge[:, None] * edges.direction[:, :, None]
        x = x.index_add(0, edges.centre, to_scalar) * 2**-0.5
        return x, v.index_add(0, edges.centre, vector * self.features**-0.5)
