"""The losses against literal evaluations of the papers' equations, atom by atom and image by image."""

import dataclasses
import functools
import itertools

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from aiida_e3relax.gnn.graph.batch import CrystalBatch, Geometry, make_batch
from aiida_e3relax.gnn.graph.shells import neighbour_graph
from aiida_e3relax.gnn.models.loss_settings import COORDINATE_ERRORS
from aiida_e3relax.gnn.models.losses import (
    LossSettings,
    Target,
    layerwise_loss,
    nearest_image_vectors,
    structure_losses,
)
from tests.gnn.crystals import batch_of, rattled

SKEWED = np.array([[3.0, 0, 0], [8.7, 1.5, 0], [-5.4, 0.9, 2.0]])
"""A cell whose reduced vectors are sums of several of its own."""

bonds = functools.partial(neighbour_graph, cutoff=3.0, max_neighbours=4)


ALL_IMAGES = (14, 5, 3)
"""How many cells away along its three vectors the nearest image may be that the tests come upon."""


def images_within(reach: tuple[int, int, int]) -> list[tuple[int, ...]]:
    return list(itertools.product(*(range(-most, most + 1) for most in reach)))


def literal_pacd(
    predicted: np.ndarray, relaxed: np.ndarray, cell: np.ndarray, reach: tuple[int, int, int] = (1, 1, 1)
) -> float:
    """Return eq. 39 of one crystal, from positions and the relaxed cell in A: 27 images (eq. 37), or more."""
    total = 0.0
    for r_predicted, r_relaxed in zip(predicted, relaxed, strict=True):
        images = [r_predicted + np.array(k) @ cell for k in images_within(reach)]  # eq. 38
        nearest = min(images, key=lambda image: float(np.linalg.norm(image - r_relaxed)))
        total += sum(abs(component) for component in nearest - r_relaxed)
    return total / (3 * len(predicted))


def case(cells: list[np.ndarray] | None = None) -> tuple[CrystalBatch, list[Geometry], Target]:
    """Return crystals, three predictions of different cells, some atoms a cell away, and the target; float64."""
    frames = rattled()
    for atoms, cell in zip(frames, cells or [], strict=False):
        atoms.set_cell(cell, scale_atoms=True)
    batch = make_batch(batch_of(*frames), bonds, dtype=torch.float64)
    generator = torch.Generator().manual_seed(4)
    noise = functools.partial(torch.randn, generator=generator, dtype=torch.float64)
    target = Target.of(Geometry(batch.fractional, batch.cell))
    n, s = len(batch.numbers), len(batch.cell)
    predictions = []
    for size in (0.02, 0.1, 0.2):
        strain = torch.eye(3, dtype=torch.float64) + 0.03 * noise(s, 3, 3)
        fractional = batch.fractional + size * noise(n, 3)
        fractional[::3, 1] += 0.9
        predictions.append(Geometry(fractional, batch.cell @ strain))
    return batch, predictions, target


def by_crystal(batch: CrystalBatch, prediction: Geometry, target: Target) -> list[tuple[np.ndarray, ...]]:
    """Return the predicted and relaxed positions and the relaxed cell of every crystal."""
    positions = (prediction.positions(batch).numpy(), target.positions(batch).numpy())
    index = batch.structure_index.numpy()
    return [(*(p[index == s] for p in positions), cell) for s, cell in enumerate(target.cell.numpy())]


def test_pacd_is_the_literal_equation():
    batch, predictions, target = case()
    found = structure_losses(predictions, target, batch, 'pacd')
    for layer, prediction in enumerate(predictions):
        expected = [literal_pacd(*crystal) for crystal in by_crystal(batch, prediction, target)]
        np.testing.assert_allclose(found[:, layer, 0], expected, rtol=0, atol=1e-12)
        cell = (prediction.cell - target.cell).abs().numpy().reshape(-1, 9).mean(axis=1)
        np.testing.assert_allclose(found[:, layer, 1], cell, rtol=0, atol=1e-12)


def test_pacd_finds_the_nearest_image_where_27_images_of_a_skewed_cell_do_not():
    batch, predictions, target = case([SKEWED] * 3)
    found = structure_losses(predictions, target, batch, 'pacd')[:, -1, 0]
    crystals = by_crystal(batch, predictions[-1], target)
    nearest = [literal_pacd(*crystal, ALL_IMAGES) for crystal in crystals]
    np.testing.assert_allclose(found, nearest, rtol=0, atol=1e-12)
    among_27 = [literal_pacd(*crystal) for crystal in crystals]
    assert max(few - all_ for few, all_ in zip(among_27, nearest, strict=True)) > 0.02


def test_pacd_finds_the_nearest_image_of_atoms_that_are_written_many_cells_away():
    batch, predictions, target = case()
    away = [Geometry(p.fractional + 4, p.cell) for p in predictions]
    shift = torch.einsum('c,scx->sx', torch.full((3,), 4.0, dtype=torch.float64), predictions[-1].cell - target.cell)
    crystals = by_crystal(batch, predictions[-1], target)
    expected = [literal_pacd(p + by, r, c, (4, 4, 4)) for (p, r, c), by in zip(crystals, shift.numpy(), strict=True)]
    np.testing.assert_allclose(structure_losses(away, target, batch, 'pacd')[:, -1, 0], expected, rtol=0, atol=1e-12)


def test_displacement_loss_is_the_literal_equation():
    """As the authors of E3Relax compute eq. 19, crystal by crystal: lengths, and atoms in other cells far away."""
    batch, predictions, target = case()
    found = structure_losses(predictions, target, batch, 'displacement')
    for layer, prediction in enumerate(predictions):
        crystals = by_crystal(batch, prediction, target)
        expected = [
            sum(float(np.linalg.norm(p - r)) for p, r in zip(predicted, relaxed, strict=True)) / len(predicted)
            for predicted, relaxed, _ in crystals
        ]
        np.testing.assert_allclose(found[:, layer, 0], expected, rtol=0, atol=1e-12)
    in_another_cell = Geometry(predictions[0].fractional + 1, predictions[0].cell)
    assert (structure_losses([in_another_cell], target, batch, 'displacement')[:, 0, 0] > found[:, 0, 0] + 1).all()


def test_displacement_loss_is_the_mean_over_atoms_that_may_move():
    batch, predictions, target = case()
    fixed = torch.zeros(len(batch.numbers), 3, dtype=torch.bool)
    fixed[::2] = True
    fixed[1, 0] = True
    held = dataclasses.replace(batch, fixed=fixed)
    still = Geometry(torch.where(fixed, target.fractional, predictions[0].fractional), target.cell)
    found = structure_losses([still], target, held, 'displacement')[:, 0, 0]
    lengths = (still.positions(batch) - target.positions(batch)).norm(dim=1)
    for crystal, expected in enumerate(found):
        movable = (batch.structure_index == crystal) & ~fixed.all(dim=1)
        torch.testing.assert_close(expected, lengths[movable].mean(), rtol=1e-12, atol=0)


def test_nearest_image_is_the_shortest_in_a_skewed_cell():
    cell = torch.from_numpy(SKEWED)[None]
    vectors = 4 * torch.rand(50, 2, 3, dtype=torch.float64) - 2
    target = Target.of(Geometry(torch.zeros(1, 3), cell))
    found = nearest_image_vectors(vectors, target.reduced, torch.zeros(50, dtype=torch.int64))
    images = torch.tensor(images_within(ALL_IMAGES), dtype=torch.float64) @ cell[0]
    longer = (vectors[:, :, None] + images).norm(dim=3).amin(dim=2)
    np.testing.assert_allclose(found.norm(dim=2), longer, atol=1e-12)


def test_cell_that_is_too_large_counts_once_in_fractions_and_twice_in_pacd():
    """Exact fractions in a cell of 5.65 A that is 4 % too large: eq. 39 gives its centre 0.04 x 5.65 / 2 A."""
    batch = make_batch(batch_of(Atoms('Po', [[2.825] * 3], cell=[5.65] * 3, pbc=True)), bonds, dtype=torch.float64)
    target = Target.of(Geometry(batch.fractional, batch.cell))
    prediction = Geometry(batch.fractional, 1.04 * batch.cell)
    found = {kind: structure_losses([prediction], target, batch, kind)[0, 0].tolist() for kind in COORDINATE_ERRORS}
    assert found['fractional'] == pytest.approx([0.0, 0.04 * 5.65 / 3], abs=1e-12)
    assert found['pacd'] == pytest.approx([0.113, 0.04 * 5.65 / 3], abs=1e-12)


def test_fractional_loss_by_hand():
    batch = make_batch(batch_of(bulk('Si', 'diamond', a=4.0, cubic=True)), bonds, dtype=torch.float64)
    moved = batch.fractional.clone()
    moved[0, 0] += 0.25 + 3  # 1 A along x, in another cell
    target = Target.of(Geometry(batch.fractional, batch.cell))
    coordinates, cell = structure_losses([Geometry(moved, batch.cell * 1.1)], target, batch)[0, 0]
    np.testing.assert_allclose(coordinates, 1.0 / 24)
    np.testing.assert_allclose(cell, 1.2 / 9)


@pytest.mark.parametrize('kind', COORDINATE_ERRORS)
@pytest.mark.parametrize('cells', [None, [SKEWED] * 3], ids=['as they are', 'skewed'])
def test_gradient_is_that_of_finite_differences(kind, cells):
    batch, predictions, target = case(cells)
    settings, step = LossSettings(kind, 0.7, (0.5, 0.0, 2.0)), 1e-6
    variables = [tensor.requires_grad_() for p in predictions for tensor in (p.fractional, p.cell)]
    torch.manual_seed(1)
    direction = [torch.randn_like(variable) for variable in variables]

    def loss_after(length: float) -> torch.Tensor:
        with torch.no_grad():
            torch._foreach_add_(variables, direction, alpha=length)
        return layerwise_loss(predictions, target, batch, settings)[0].sum()

    slopes = torch.autograd.grad(loss_after(0.0), variables)
    slope = sum((one * way).sum() for one, way in zip(slopes, direction, strict=True))
    with torch.no_grad():
        difference = (loss_after(step) - loss_after(-2 * step)) / (2 * step)
    torch.testing.assert_close(slope, difference, rtol=1e-7, atol=1e-7)
    assert not slopes[2].any()  # of the layer without weight


@pytest.mark.parametrize('kind', COORDINATE_ERRORS)
def test_layers_count_by_their_weights(kind):
    batch, predictions, target = case()
    errors = structure_losses(predictions, target, batch, kind)
    single = errors[..., 0] + 3.0 * errors[..., 1]
    for weights in (None, (0.0, 0.0, 1.0), (0.25, 0.5, 4.0)):
        losses, last = layerwise_loss(predictions, target, batch, LossSettings(kind, 3.0, weights))
        expected = sum((weights or (1, 1, 1))[layer] * single[:, layer] for layer in range(3))
        torch.testing.assert_close(losses, expected, rtol=1e-13, atol=0)
        torch.testing.assert_close(last, errors[:, -1])


def test_as_many_weights_as_layers():
    batch, predictions, target = case()
    with pytest.raises(ValueError, match='2 layer weights, but the model gives 3 structures'):
        layerwise_loss(predictions, target, batch, LossSettings(layer_weights=(1.0, 1.0)))


def test_gradient_reaches_the_weights_of_the_first_layer_through_all(network):
    batch = make_batch(batch_of(*rattled()), network.graph, dtype=torch.float64)
    target = Target.of(Geometry(batch.fractional + 0.02, batch.cell * 1.03))
    weight = network.layers[0].message_passing.radial_filter.weight

    def loss() -> torch.Tensor:
        return layerwise_loss(network(batch), target, batch, LossSettings('pacd'))[0].sum()

    (gradient,) = torch.autograd.grad(loss(), weight)
    index = divmod(int(gradient.abs().argmax()), weight.shape[1])
    step = 1e-6

    def shifted(by: float) -> float:
        with torch.no_grad():
            weight[index] += by
            total = loss()
            weight[index] -= by
        return float(total)

    slope = (shifted(step) - shifted(-step)) / (2 * step)
    assert abs(slope - float(gradient[index])) < 1e-5 * abs(slope)
