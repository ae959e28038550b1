"""Faster forms of layers: subclasses with the same parameters, whose place in a model `accelerate` gives them."""

from __future__ import annotations

import bisect
import functools
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from aiida_e3relax.gnn.engine import native, native_products
from aiida_e3relax.gnn.engine.kernels import kernels_for
from aiida_e3relax.gnn.engine.tables import FilterTable, filter_table, gate_polynomials, gate_table
from aiida_e3relax.gnn.engine.weight_cache import cached
from aiida_e3relax.gnn.graph.batch import CrystalBatch
from aiida_e3relax.gnn.layers import AtomsToLattice, EdgeGeometry, HighDegreeMessagePassing, LatticeToAtoms, RadialBasis
from aiida_e3relax.gnn.models.published.angular_gate import AngularGate
from aiida_e3relax.gnn.models.published.edges import Edges
from aiida_e3relax.gnn.models.published.message_passing import MessagePassing

CHUNK_ELEMENTS = 1 << 19
"""Numbers in a temporary of the chunked form: two megabytes, between the cost of a call and that of a cache missed."""


class FastMessagePassing(HighDegreeMessagePassing):
    """Messages summed by the kernels of the device; without them, chunk by chunk where no gradient is wanted."""

    def sums(self, source: Tensor, v: Tensor | None, edges: EdgeGeometry) -> tuple[Tensor, Tensor]:
        """Return what `HighDegreeMessagePassing.sums` returns."""
        kernels = kernels_for(source)
        if kernels is None:
            if torch.is_grad_enabled() or source.device.type != 'cpu':
                return super().sums(source, v, edges)
            parts = [super(FastMessagePassing, self).sums(source, v, part) for part in _chunks(edges, self.features)]
            return torch.cat([dx for dx, _ in parts]), torch.cat([dv for _, dv in parts])
        scales = (3 * self.features) ** -0.5, (3 * self.features) ** -0.5, 3**-0.5
        table = _table(self, edges.radial_basis, self.radial_filter.weight, scales)
        gate = None
        if self.angular_gate is not None:
            projection = (edges.direction * edges.reference.index_select(0, edges.centre)).sum(dim=1)
            gate = projection, gate_polynomials(edges.reference, self.angular_gate.weight, self.angular_gate.bias)
        return kernels.message_sums(
            table, source, v, edges.first_edge, edges.neighbour, edges.distance, edges.direction, gate
        )


class FastAtomsToLattice(AtomsToLattice):
    """Bonds summed by the kernels of the device."""

    def bond_dyads(self, as_neighbour: Tensor, edges: EdgeGeometry) -> Tensor:
        """Return what `AtomsToLattice.bond_dyads` returns."""
        kernels = kernels_for(as_neighbour)
        if kernels is None:
            return super().bond_dyads(as_neighbour, edges)
        table = _table(self, edges.radial_basis, self.bond_filter.weight, (1.0,))
        rows, columns, spread = _symmetric_indices(as_neighbour.device)
        sums = kernels.tensor_sums(
            table,
            as_neighbour,
            edges.first_edge,
            edges.neighbour,
            edges.distance,
            edges.direction.index_select(1, rows) * edges.direction.index_select(1, columns),
        )
        return sums.index_select(1, spread)

    def mean_dyads(self, vectors: Tensor, batch: CrystalBatch) -> Tensor:
        """Return what `AtomsToLattice.mean_dyads` returns."""
        if not native.usable(vectors):
            return super().mean_dyads(vectors, batch)
        first_atom = torch.nn.functional.pad(batch.n_atoms.cumsum(0), (1, 0))
        return native_products.dyad_sums(first_atom, vectors) / batch.n_atoms.to(vectors.dtype)[:, None, None, None]


class FastLatticeToAtoms(LatticeToAtoms):
    """Atoms' vectors turned by the compiled kernels."""

    def turned(self, tensor: Tensor, v: Tensor, keep: Tensor, turn: Tensor, structure_index: Tensor) -> Tensor:
        """Return what `LatticeToAtoms.turned` returns."""
        if not native.usable(v):
            return super().turned(tensor, v, keep, turn, structure_index)
        first_atom = torch.searchsorted(structure_index, torch.arange(len(tensor) + 1))
        return native_products.turned_in_part(first_atom, tensor, v, keep, turn)


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
        table = cached(
            self, 'table', (self.edge_filter.weight, self.edge_filter.bias), lambda: self._table(radial_basis)
        )
        source, sums = self.source(x).view(-1, 3, f), (start, edges.neighbour, distance, edges.direction)
        if gate is None:
            scalar, vector = native.message_sums(table, source, v, *sums, None)
        else:
            cosine = (edges.direction * gate.references(edges, n)[edges.centre]).sum(dim=1)
            gates = cached(self, 'gates', tuple(gate.parameters()), lambda: gate_table(gate))
            scalar, vector = native.tabulated_message_sums(table, gates, source, v, *sums, cosine.clamp(-1, 1).acos())
        return (x + scalar) * 2**-0.5, v + vector

    def _table(self, radial_basis: RadialBasis) -> FilterTable:
        """Return the table of the filters with their bias, times the messages' scales."""
        scales = torch.tensor([(3 * self.features) ** -0.5] * 2 + [3**-0.5]).repeat_interleave(self.features)
        table = filter_table(radial_basis, self.edge_filter.weight)
        return FilterTable((table.values + self.edge_filter.bias) * scales.to(table.values), table.inverse_spacing)


@functools.cache
def _symmetric_indices(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows and columns of a symmetric matrix's six numbers, and which of them stands at each of the nine places.

    Cached on the device: an index from the host would make every layer wait for it.
    """
    rows, columns = torch.triu_indices(3, 3)
    return rows.to(device), columns.to(device), torch.tensor([0, 1, 2, 1, 3, 4, 2, 4, 5], device=device)


def _table(module: nn.Module, basis: RadialBasis, weight: Tensor, scales: tuple[float, ...]) -> FilterTable:
    """Return the table of the filters `weight`, its equal parts times `scales`."""

    def make() -> FilterTable:
        parts = zip(weight.chunk(len(scales)), scales, strict=True)
        return filter_table(basis, torch.cat([part * scale for part, scale in parts]))

    return cached(module, 'table', (weight,), make)


def _chunks(edges: EdgeGeometry, features: int) -> Iterator[EdgeGeometry]:
    """Yield the edges of runs of atoms whose temporaries, of 3 times `features` numbers an edge, stay small."""
    bounds = edges.first_edge.tolist()
    size = max(1, CHUNK_ELEMENTS // (3 * features))
    start = 0
    while start < edges.n_atoms_total:
        end = max(start + 1, bisect.bisect_right(bounds, bounds[start] + size) - 1)
        own = slice(bounds[start], bounds[end])
        part = EdgeGeometry(
            edges.centre[own] - start,
            edges.neighbour[own],
            edges.distance[own],
            edges.direction[own],
            end - start,
            edges.radial_basis,
        )
        part.__dict__['reference'] = edges.reference[start:end]
        yield part
        start = end
