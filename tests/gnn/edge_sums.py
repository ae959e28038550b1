"""Sums over random edges against the same formula in PyTorch: each number and each gradient."""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

from aiida_e3relax.gnn.engine.tables import filter_table
from aiida_e3relax.gnn.layers import RadialBasis

ROUNDING = {torch.float32: 2e-5, torch.float64: 1e-12}
"""Largest difference, relative to the largest number."""

CUTOFF, FUNCTIONS, POWERS = 6.0, 12, 4


class Edges:
    """Random edges, some beyond the cutoff; the last atom has none."""

    def __init__(self, dtype: torch.dtype, count: int, device: str = 'cpu'):
        generator = torch.Generator().manual_seed(3)
        self.atoms = 9
        self.centre = torch.sort(torch.randint(0, self.atoms - 1, (count,), generator=generator))[0].to(device)
        self.neighbour = torch.randint(0, self.atoms, (count,), generator=generator).to(device)
        edges = torch.bincount(self.centre, minlength=self.atoms)
        self.start = torch.cat([edges.new_zeros(1), edges.cumsum(0)])
        self.generator, self.dtype, self.device = generator, dtype, device
        self.distance = self.uniform(count, 1.1 * CUTOFF)
        self.direction = self.random(count, 3)
        self.basis = RadialBasis(FUNCTIONS, CUTOFF).to(device, dtype)

    def random(self, *shape: int) -> Tensor:
        numbers = torch.randn(*shape, dtype=self.dtype, generator=self.generator)
        return numbers.to(self.device).requires_grad_()

    def uniform(self, count: int, largest: float) -> Tensor:
        numbers = largest * torch.rand(count, dtype=self.dtype, generator=self.generator)
        return numbers.to(self.device).requires_grad_()


def assert_same(found: tuple[Tensor, ...], expected: tuple[Tensor, ...], inputs: list[Tensor]) -> None:
    """Assert that outputs, and the gradients of a random function of them, are equal to rounding."""
    weights = [torch.randn_like(t) for t in expected]
    gradients = [
        torch.autograd.grad(
            sum((t * w).sum() for t, w in zip(outputs, weights, strict=True)), inputs, retain_graph=True
        )
        for outputs in (found, expected)
    ]
    for a, b in zip((*found, *gradients[0]), (*expected, *gradients[1]), strict=True):
        assert (a - b).abs().max() < ROUNDING[b.dtype] * b.abs().max()


def check_message_sums(sums: ModuleType, edges: Edges, features: int, gated: bool, with_vectors: bool) -> None:
    """Assert that `message_sums` of the module `sums` is its formula."""
    weight, source = edges.random(3 * features, FUNCTIONS), edges.random(edges.atoms, 3, features)
    vectors = edges.random(edges.atoms, 3, features) if with_vectors else None
    projection = edges.uniform(len(edges.centre), 1.0) if gated else None
    polynomial = edges.random(edges.atoms, POWERS, features) if gated else None
    table = filter_table(edges.basis, weight)
    found = sums.message_sums(
        table,
        source,
        vectors,
        edges.start,
        edges.neighbour,
        edges.distance,
        edges.direction,
        (projection, polynomial) if gated else None,
    )
    filters = table.interpolated(edges.distance).view(-1, 3, features)
    if gated:
        powers = torch.stack([projection**k for k in range(POWERS)], dim=1)
        filters = filters * (1 + torch.tanh(torch.einsum('ek,ekf->ef', powers, polynomial[edges.centre])))[:, None]
    to_vector, along, scalar = (source[edges.neighbour] * filters).unbind(dim=1)
    vector = along[:, None] * edges.direction[:, :, None]
    if with_vectors:
        vector = vector + to_vector[:, None] * vectors[edges.neighbour]
    expected = (
        torch.zeros_like(source[:, 0]).index_add(0, edges.centre, scalar),
        torch.zeros_like(source).index_add(0, edges.centre, vector),
    )
    inputs = [weight, source, vectors, projection, polynomial, edges.distance, edges.direction]
    assert_same(found, expected, [t for t in inputs if t is not None])


def check_tensor_sums(sums: ModuleType, edges: Edges, channels: int, components: int) -> None:
    """Assert that `tensor_sums` of the module `sums` is its formula."""
    weight, source = edges.random(channels, FUNCTIONS), edges.random(edges.atoms, channels)
    angular = edges.random(len(edges.centre), components)
    table = filter_table(edges.basis, weight)
    found = sums.tensor_sums(table, source, edges.start, edges.neighbour, edges.distance, angular)
    bonds = table.interpolated(edges.distance) * source[edges.neighbour]
    expected = source.new_zeros(edges.atoms, components, channels).index_add(
        0, edges.centre, angular[:, :, None] * bonds[:, None]
    )
    assert_same((found,), (expected,), [weight, source, angular, edges.distance])


def check_no_edges(sums: ModuleType, edges: Edges) -> None:
    """Assert that sums over no edges are zero, and so are their gradients; `edges` has none."""
    source = edges.random(edges.atoms, 3, 8)
    polynomial = edges.random(edges.atoms, POWERS, 8)
    table = filter_table(edges.basis, edges.random(24, FUNCTIONS))
    gate = (edges.uniform(0, 1.0), polynomial)
    found = [
        *sums.message_sums(table, source, source, edges.start, edges.neighbour, edges.distance, edges.direction, gate),
        sums.tensor_sums(
            filter_table(edges.basis, edges.random(8, FUNCTIONS)),
            source[:, 0],
            edges.start,
            edges.neighbour,
            edges.distance,
            edges.random(0, 6),
        ),
    ]
    gradients = torch.autograd.grad([t.sum() for t in found], [source, polynomial, edges.distance, edges.direction])
    assert not any(t.any() for t in (*found, *gradients))


def check_not_a_number(sums: ModuleType, edges: Edges) -> None:
    """Assert that an edge whose length is NaN makes the sums of its own centre NaN, and no others."""
    bad = len(edges.centre) // 2
    source = edges.random(edges.atoms, 3, 8)
    table = filter_table(edges.basis, edges.random(24, FUNCTIONS))
    distance = edges.distance.detach().clone()
    distance[bad] = torch.nan
    found = sums.message_sums(table, source, source, edges.start, edges.neighbour, distance, edges.direction, None)
    for total in (*found, table.interpolated(distance)[:, :8]):
        lost = total.isnan().flatten(1)
        assert lost.any(dim=1).sum() == 1
        assert lost.all(dim=1).sum() == 1
    assert found[0].isnan()[edges.centre[bad]].all()
