"""Faster forms of layers: subclasses with the same parameters, which take the place of the class of a module."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor

from aiida_e3relax.gnn.engine import native
from aiida_e3relax.gnn.engine.tables import FilterTable, filter_table
from aiida_e3relax.gnn.layers import AtomsToLattice, EdgeGeometry, HighDegreeMessagePassing, RadialBasis

CHUNK_ELEMENTS = 1 << 17
"""Numbers in a temporary of the chunked form: half a megabyte, which stays in the cache of a core."""


class FastMessagePassing(HighDegreeMessagePassing):
    """Messages summed by the compiled kernels; without them, chunk by chunk where no gradient is wanted."""

    def forward(self, x: Tensor, v: Tensor, edges: EdgeGeometry, first: bool) -> tuple[Tensor, Tensor]:
        """Return what `HighDegreeMessagePassing` returns."""
        if not native.usable(x):
            if torch.is_grad_enabled() or x.device.type != 'cpu':
                return super().forward(x, v, edges, first)
            plain = super().forward
            return _total(plain(x, v, part, first) for part in _chunks(edges, 3 * self.features))
        scales = x.new_tensor([(3 * self.features) ** -0.5] * 2 + [3**-0.5]).repeat_interleave(self.features)
        table = _kept_table(self, edges.radial_basis, self.radial_filter.weight, scales)
        gate = None
        if self.angular_gate is not None:
            projection = (edges.direction * edges.reference.index_select(0, edges.centre)).sum(dim=1)
            gate = projection, gate_polynomials(edges.reference, self.angular_gate.weight, self.angular_gate.bias)
        return native.message_sums(
            table,
            self.source(x).view(-1, 3, self.features),
            None if first else v,
            edges.first_edge,
            edges.neighbour,
            edges.distance,
            edges.direction,
            gate,
        )


class FastAtomsToLattice(AtomsToLattice):
    """Bonds summed by the compiled kernels."""

    def bond_dyads(self, as_neighbour: Tensor, edges: EdgeGeometry) -> Tensor:
        """Return what `AtomsToLattice.bond_dyads` returns."""
        if not native.usable(as_neighbour):
            return super().bond_dyads(as_neighbour, edges)
        table = _kept_table(self, edges.radial_basis, self.bond_filter.weight, None)
        rows, columns = torch.triu_indices(3, 3)
        sums = native.tensor_sums(
            table,
            as_neighbour,
            edges.first_edge,
            edges.neighbour,
            edges.distance,
            edges.direction[:, rows] * edges.direction[:, columns],
        )
        return sums[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]]


def gate_polynomials(reference: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return the argument of an atom's angular gate as polynomials in an edge's projection p on its reference vector.

    Parameters
    ----------
    reference
        ``(A, 3)`` reference vectors n.
    weight, bias
        ``(F, l_max + 1)`` and ``(F,)``: the gate's argument is ``sum_l weight_l z_l + bias``.

    Returns
    -------
    Tensor
        ``(A, l_max + 1, F)`` coefficients of the powers of p = u.n, from `solid_invariants`' recursion.
    """
    l_max = weight.shape[1] - 1
    squared = (reference * reference).sum(dim=1, keepdim=True)
    one = torch.nn.functional.pad(torch.ones_like(squared), (0, l_max))
    polynomials = [one, one.roll(1, dims=1)]
    for degree in range(1, l_max):
        raised = polynomials[-1].roll(1, dims=1)
        following = (2 * degree + 1) * raised - degree * squared * polynomials[-2]
        polynomials.append(following / (degree + 1))
    constant = torch.nn.functional.pad(bias[None], (0, 0, 0, l_max))
    return torch.stack(polynomials[: l_max + 1], dim=2) @ weight.T + constant


def _kept_table(module: torch.nn.Module, basis: RadialBasis, weight: Tensor, scales: Tensor | None) -> FilterTable:
    """Return the table of the filters `weight`, times `scales` ``(C,)``; kept in `module` while the weights stay."""
    if torch.is_grad_enabled():
        return filter_table(basis, weight if scales is None else weight * scales[:, None])
    mark = weight.data_ptr(), weight._version, weight.dtype
    if module.__dict__.get('_table_mark') != mark:
        scaled = weight if scales is None else weight * scales[:, None]
        module.__dict__['_table'] = filter_table(basis, scaled.detach())
        module.__dict__['_table_mark'] = mark
    return module.__dict__['_table']


def _chunks(edges: EdgeGeometry, features: int) -> Iterator[EdgeGeometry]:
    """Yield the edges in runs whose temporaries of `features` numbers an edge stay small."""
    reference = edges.reference
    size = max(1, CHUNK_ELEMENTS // features)
    for start in range(0, max(1, len(edges.centre)), size):
        names = ('centre', 'neighbour', 'distance', 'direction')
        part = dataclasses.replace(edges, **{name: getattr(edges, name)[start : start + size] for name in names})
        part.__dict__['reference'] = reference
        yield part


def _total(parts: Iterator[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    dx, dv = next(parts)
    for more_dx, more_dv in parts:
        dx += more_dx
        dv += more_dv
    return dx, dv
