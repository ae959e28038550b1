"""Faster forms of the published models' layers, for prediction."""

from __future__ import annotations

import torch
from torch import Tensor

from aiida_e3relax.gnn.engine import native
from aiida_e3relax.gnn.engine.tables import FilterTable, filter_table, gate_table
from aiida_e3relax.gnn.engine.weight_cache import kept
from aiida_e3relax.gnn.layers import RadialBasis
from aiida_e3relax.gnn.models.published.angular_gate import AngularGate
from aiida_e3relax.gnn.models.published.edges import Edges
from aiida_e3relax.gnn.models.published.message_passing import MessagePassing


class FastPublishedMessagePassing(MessagePassing):
    """Messages summed by the compiled kernels where no gradient is wanted."""

    def radial(
        self, x: Tensor, v: Tensor, edges: Edges, radial_basis: RadialBasis, gate: AngularGate | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return what `MessagePassing.radial` returns."""
        if torch.is_grad_enabled() or not native.usable(x):
            return super().radial(x, v, edges, radial_basis, gate)
        n, f = len(x), self.features
        start = torch.searchsorted(edges.centre, torch.arange(n + 1))
        # Beyond the reach of the basis the filter is its bias, which the last row holds.
        distance = edges.length.clamp_max(radial_basis.cutoff * (1 - 1e-6))
        table = kept(self, 'table', (self.edge_filter.weight, self.edge_filter.bias), lambda: self._table(radial_basis))
        source, sums = self.source(x).view(-1, 3, f), (start, edges.neighbour, distance, edges.direction)
        if gate is None:
            scalar, vector = native.message_sums(table, source, v, *sums, None)
        else:
            cosine = (edges.direction * gate.references(edges, n)[edges.centre]).sum(dim=1)
            gates = kept(self, 'gates', tuple(gate.parameters()), lambda: gate_table(gate))
            scalar, vector = native.tabulated_message_sums(table, gates, source, v, *sums, cosine.clamp(-1, 1).acos())
        return (x + scalar) * 2**-0.5, v + vector

    def _table(self, radial_basis: RadialBasis) -> FilterTable:
        """Return the table of the filters with their bias, times the messages' scales."""
        scales = torch.tensor([(3 * self.features) ** -0.5] * 2 + [3**-0.5]).repeat_interleave(self.features)
        table = filter_table(radial_basis, self.edge_filter.weight)
        return FilterTable((table.values + self.edge_filter.bias) * scales.to(table.values), table.inverse_spacing)
