"""The solvers against plain ones, crystal by crystal and by automatic differentiation."""

import numpy as np
import pytest
import torch
from torch import Tensor

from aiida_e3relax.gnn.graph.batch import CrystalBatch, make_batch
from aiida_e3relax.gnn.graph.shells import neighbour_graph
from aiida_e3relax.gnn.models.distance_geometry import (
    DistancePrediction,
    displacements_within_bounds,
    most_likely_displacements,
)
from tests.gnn.crystals import PROTOTYPES, batch_of, rattled


def problem(dtype: torch.dtype, noise: float, seed: int = 0) -> tuple[CrystalBatch, Tensor, DistancePrediction]:
    """Return crystals, the vectors of their edges, and distances after some displacement, with errors of `noise` A."""
    crystals = batch_of(*rattled(), PROTOTYPES['perovskite'](), PROTOTYPES['hcp']())
    batch = make_batch(crystals, lambda *geometry: neighbour_graph(*geometry, cutoff=5.0, max_neighbours=20))
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    vectors = batch.edge_vectors(batch.fractional, batch.cell).double()
    moved, graph, displaced = 0.15 * random(len(batch.numbers), 3), batch.graph, random(len(vectors)) > -0.5
    to_relaxed = (vectors + moved[graph.neighbour]).norm(dim=1)[displaced]
    relaxed = (vectors + moved[graph.neighbour] - moved[graph.centre]).norm(dim=1)
    exact = torch.cat([to_relaxed, relaxed])
    distance, log_scale = exact + noise * random(len(exact)), 0.5 * random(len(exact)) - 2
    prediction = DistancePrediction(displaced, distance.to(dtype), log_scale.to(dtype), batch.cell.to(dtype))
    return batch, vectors.to(dtype), prediction


def alone(index: int, batch: CrystalBatch, prediction: DistancePrediction) -> tuple[Tensor, list[Tensor]]:
    """Return the mask of one crystal's atoms, and those of its displacement and of its relaxed distances."""
    edges, count = batch.structure_index[batch.graph.centre] == index, int(prediction.displaced.sum())
    masks = torch.zeros(2, len(prediction.distance), dtype=torch.bool)
    masks[0, :count], masks[1, count:] = edges[prediction.displaced], edges
    return batch.structure_index == index, list(masks)


def lengths(index: int, batch: CrystalBatch, vectors: Tensor, moved: Tensor, displaced: Tensor) -> list[Tensor]:
    """Return the displacement and relaxed distances of one crystal whose atoms are displaced by `moved`."""
    chosen = batch.structure_index[batch.graph.centre] == index
    first = int((batch.structure_index < index).sum())
    centre, neighbour = batch.graph.centre[chosen] - first, batch.graph.neighbour[chosen] - first
    to_relaxed = vectors[chosen] + moved[neighbour]
    return [to_relaxed[displaced[chosen]].norm(dim=1), (to_relaxed - moved[centre]).norm(dim=1)]


def within_bounds_one_by_one(batch: CrystalBatch, vectors: Tensor, prediction: DistancePrediction) -> Tensor:
    """Return the displacements by the published recipe: a loop over crystals, autograd and torch's Adam."""
    displacement = vectors.new_zeros(len(batch.numbers), 3)
    for index in range(len(batch.n_atoms)):
        atoms, kinds = alone(index, batch, prediction)
        moved = displacement[atoms].requires_grad_()
        optimizer = torch.optim.Adam([moved], lr=0.1)
        for _ in range(100):
            loss = vectors.new_zeros(())
            found = lengths(index, batch, vectors, moved, prediction.displaced)
            for length, kind in zip(found, kinds, strict=True):
                distance, scale = prediction.distance[kind], prediction.log_scale[kind].clamp(-5, 2).exp()
                loss = loss + (length.clamp(0, 150) - distance - scale).relu().mean()
                loss = loss + ((distance - scale).clamp_min(0) - length.clamp(0, 150)).relu().mean()
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
        atoms, kinds = alone(index, batch, prediction)
        found = torch.cat(lengths(index, batch, vectors, moved[atoms], prediction.displaced))
        own = kinds[0] | kinds[1]
        deviation = (found - prediction.distance[own]) / prediction.log_scale[own].clamp(-3, 3).exp()
        total = total + (1 + deviation**2).sqrt().sum()
    return total


def test_most_likely_displacements_are_a_minimum():
    batch, vectors, prediction = problem(torch.float64, 0.2)
    found = most_likely_displacements(prediction, vectors, batch).requires_grad_()
    assert found.norm(dim=1).amax() > 0.05
    (slope,) = torch.autograd.grad(unlikeliness(batch, vectors, found, prediction), found)
    start = torch.zeros_like(found).requires_grad_()
    (steepest,) = torch.autograd.grad(unlikeliness(batch, vectors, start, prediction), start)
    assert slope.norm(dim=1).amax() < 1e-3 * steepest.norm(dim=1).amax()
