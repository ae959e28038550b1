"""The solvers against plain ones, crystal by crystal and by automatic differentiation."""

import numpy as np
import pytest
import torch
from torch import Tensor

from aiida_e3relax.gnn.batch import CrystalBatch, make_batch
from aiida_e3relax.gnn.distance_geometry import (
    DistancePrediction,
    displacements_within_bounds,
    most_likely_displacements,
)
from aiida_e3relax.gnn.graph import neighbour_graph
from tests.gnn.crystals import FIXED_SITES, batch_of, rattled


def problem(dtype: torch.dtype, noise: float, seed: int = 0) -> tuple[CrystalBatch, Tensor, DistancePrediction]:
    """Return crystals, the vectors of their edges, and distances after some displacement, with errors of `noise` A."""
    crystals = batch_of(*rattled(), FIXED_SITES['perovskite'](), FIXED_SITES['hcp']())
    batch = make_batch(crystals, lambda *geometry: neighbour_graph(*geometry, cutoff=5.0, max_neighbours=20))
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    vectors = batch.edge_vectors(batch.fractional, batch.cell).double()
    moved, graph, displaced = 0.15 * random(len(batch.numbers), 3), batch.graph, random(len(vectors)) > -0.5
    count = int(displaced.sum())
    to_relaxed = (vectors + moved[graph.neighbour]).norm(dim=1)[displaced]
    relaxed = (vectors + moved[graph.neighbour] - moved[graph.centre]).norm(dim=1)
    prediction = DistancePrediction(
        displaced=displaced,
        displacement_distance=(to_relaxed + noise * random(count)).to(dtype),
        displacement_log_scale=(random(count) - 3).to(dtype),
        relaxed_distance=(relaxed + noise * random(len(vectors))).to(dtype),
        relaxed_log_scale=(random(len(vectors)) - 3).to(dtype),
        cell=batch.cell.to(dtype),
    )
    return batch, vectors.to(dtype), prediction


def alone(index: int, batch: CrystalBatch, values: DistancePrediction) -> tuple[Tensor, Tensor, DistancePrediction]:
    """Return which atoms and edges are those of one crystal, and its distances."""
    edges = batch.structure_index[batch.graph.centre] == index
    own = edges[values.displaced]
    return (
        batch.structure_index == index,
        edges,
        DistancePrediction(
            values.displaced[edges],
            values.displacement_distance[own],
            values.displacement_log_scale[own],
            values.relaxed_distance[edges],
            values.relaxed_log_scale[edges],
            values.cell[index : index + 1],
        ),
    )


def lengths(index: int, batch: CrystalBatch, vectors: Tensor, moved: Tensor, p: DistancePrediction) -> list[Tensor]:
    """Return the displacement and relaxed distances of one crystal whose atoms are displaced by `moved`."""
    chosen = batch.structure_index[batch.graph.centre] == index
    first = int((batch.structure_index < index).sum())
    centre, neighbour = batch.graph.centre[chosen] - first, batch.graph.neighbour[chosen] - first
    displaced = (vectors[chosen] + moved[neighbour])[p.displaced].norm(dim=1)
    return [displaced, (vectors[chosen] + moved[neighbour] - moved[centre]).norm(dim=1)]


def within_bounds_one_by_one(batch: CrystalBatch, vectors: Tensor, prediction: DistancePrediction) -> Tensor:
    """Return the displacements by the published recipe: a loop over crystals, autograd and torch's Adam."""
    displacement = vectors.new_zeros(len(batch.numbers), 3)
    for index in range(len(batch.n_atoms)):
        atoms, _, own = alone(index, batch, prediction)
        moved = displacement[atoms].requires_grad_()
        optimizer = torch.optim.Adam([moved], lr=0.1)
        expected = [own.displacement_distance, own.relaxed_distance]
        scales = [s.clamp(-5, 2).exp() for s in (own.displacement_log_scale, own.relaxed_log_scale)]
        for _ in range(100):
            loss = vectors.new_zeros(())
            for found, distance, scale in zip(
                lengths(index, batch, vectors, moved, own), expected, scales, strict=True
            ):
                found = found.clamp(0, 150)
                loss = loss + (found - distance - scale).relu().mean()
                loss = loss + ((distance - scale).clamp_min(0) - found).relu().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        displacement[atoms] = moved.detach()
    return displacement


# Where distances contradict each other, atoms hop across the edges of their bounds, and rounding decides when.
@pytest.mark.parametrize(
    ('dtype', 'noise', 'tolerance'), [(torch.float64, 0.2, 1e-9), (torch.float64, 0, 1e-9), (torch.float32, 0, 1e-5)]
)
def test_published_solver_is_that_of_the_plain_loop(dtype, noise, tolerance):
    batch, vectors, prediction = problem(dtype, noise)
    expected = within_bounds_one_by_one(batch, vectors, prediction)
    assert expected.norm(dim=1).amax() > 0.05
    found = displacements_within_bounds(prediction, vectors, batch)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def unlikeliness(batch: CrystalBatch, vectors: Tensor, moved: Tensor, prediction: DistancePrediction) -> Tensor:
    """Return what `most_likely_displacements` minimises, crystal by crystal."""
    total = vectors.new_zeros(())
    for index in range(len(batch.n_atoms)):
        atoms, _, own = alone(index, batch, prediction)
        found = torch.cat(lengths(index, batch, vectors, moved[atoms], own))
        total = total + (1 + ((found - own.distance) / own.log_scale.clamp(-3, 3).exp()) ** 2).sqrt().sum()
    return total


def test_most_likely_displacements_are_a_minimum():
    batch, vectors, prediction = problem(torch.float64, 0.2)
    found = most_likely_displacements(prediction, vectors, batch).requires_grad_()
    assert found.norm(dim=1).amax() > 0.05
    (slope,) = torch.autograd.grad(unlikeliness(batch, vectors, found, prediction), found)
    start = torch.zeros_like(found).requires_grad_()
    (steepest,) = torch.autograd.grad(unlikeliness(batch, vectors, start, prediction), start)
    assert slope.norm(dim=1).amax() < 1e-3 * steepest.norm(dim=1).amax()
