import functools

import numpy as np
import torch
from ase.build import bulk

from aiida_e3relax.gnn.graph.batch import Geometry, make_batch
from aiida_e3relax.gnn.graph.shells import neighbour_graph
from aiida_e3relax.gnn.models.losses import layerwise_loss, nearest_image_vectors, structure_losses
from tests.gnn.crystals import batch_of, rattled


def test_nearest_image_is_the_shortest_in_a_skewed_cell():
    cell = torch.tensor([[[3.0, 0, 0], [2.7, 1.5, 0], [0.4, 0.9, 2.0]]], dtype=torch.float64).expand(50, 3, 3)
    difference = 4 * torch.rand(50, 3, dtype=torch.float64) - 2
    vectors = nearest_image_vectors(difference, cell)
    images = torch.cartesian_prod(*[torch.arange(-6, 7)] * 3).double()
    longer = torch.einsum('aic,acx->aix', difference[:, None] + images, cell).norm(dim=2).amin(dim=1)
    np.testing.assert_allclose(vectors.norm(dim=1), longer, atol=1e-12)


def test_loss_by_hand():
    bonds = functools.partial(neighbour_graph, cutoff=3.0, max_neighbours=4)
    batch = make_batch(batch_of(bulk('Si', 'diamond', a=4.0, cubic=True)), bonds, dtype=torch.float64)
    moved = batch.fractional.clone()
    moved[0, 0] += 0.25 + 3  # 1 A along x, in another cell
    coordinates, cell = structure_losses(
        Geometry(moved, batch.cell * 1.1), Geometry(batch.fractional, batch.cell), batch
    )
    np.testing.assert_allclose(coordinates, [1.0 / 24])
    np.testing.assert_allclose(cell, [1.2 / 9])


def test_every_layer_counts_and_gradients_are_those_of_finite_differences(network):
    crystals = batch_of(*rattled())
    batch = make_batch(crystals, network.graph, dtype=torch.float64)
    target = Geometry(batch.fractional + 0.02, batch.cell * 1.03)
    geometries = network(batch)
    losses, _ = layerwise_loss(geometries, target, batch, 1.0)
    single = [sum(structure_losses(g, target, batch)) for g in geometries]
    torch.testing.assert_close(losses, sum(single))
    weight = network.layers[0].message_passing.radial_filter.weight
    (gradient,) = torch.autograd.grad(losses.sum(), weight)
    index = divmod(int(gradient.abs().argmax()), weight.shape[1])
    step = 1e-6

    def shifted(by: float) -> float:
        with torch.no_grad():
            weight[index] += by
            total = layerwise_loss(network(batch), target, batch, 1.0)[0].sum()
            weight[index] -= by
        return float(total)

    slope = (shifted(step) - shifted(-step)) / (2 * step)
    assert abs(slope - float(gradient[index])) < 1e-5 * abs(slope)
