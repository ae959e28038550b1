"""Fixed atoms and fixed cells: what every model of the registry does with them, and what the loss counts."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from aiida_e3relax.gnn.engine.padding import BatchShape, padded_batch
from aiida_e3relax.gnn.graph.batch import CrystalBatch, Geometry, make_batch
from aiida_e3relax.gnn.layers import displaced
from aiida_e3relax.gnn.models.base import RelaxationModel
from aiida_e3relax.gnn.models.distance_geometry import free_directions
from aiida_e3relax.gnn.models.losses import DEFAULT_LOSS, LossSettings, Target, structure_losses
from aiida_e3relax.gnn.models.registry import MODELS, make_model
from tests.gnn.crystals import batch_of, rattled
from tests.gnn.networks import random_network

IN_PART = torch.tensor([False, False, True])


def masked(batch: CrystalBatch) -> CrystalBatch:
    """Return the batch of `rattled` with one atom of the first crystal fixed, one of the second in part, no third."""
    fixed = torch.zeros(len(batch.numbers), 3, dtype=torch.bool)
    first = torch.cumsum(batch.n_atoms, 0) - batch.n_atoms
    fixed[first[0]] = True
    fixed[first[1]] = IN_PART
    return dataclasses.replace(batch, fixed=fixed, fixed_cell=torch.tensor([True, False, False]))


def batch_for(model: RelaxationModel) -> CrystalBatch:
    return make_batch(batch_of(*rattled()), model.graph, dtype=torch.float64)


@pytest.fixture(scope='module', params=[name for name in MODELS if name != 'dummy'])
def model(request) -> RelaxationModel:
    return random_network(request.param)


@torch.no_grad()
def test_what_is_fixed_stays_in_every_layer_and_the_rest_moves(model):
    batch = masked(batch_for(model))
    for layer in model.forward(batch):  # not only where the base class sees to it
        assert (layer.cell[0] == batch.cell[0]).all()
        assert (layer.cell[1:] != batch.cell[1:]).any()
        moved = layer.fractional - batch.fractional
        assert (moved[batch.fixed].abs() < 1e-12).all()
        assert ((moved[~batch.fixed] != 0).double().mean()) > 0.8


@torch.no_grad()
def test_fixed_atoms_of_egnn_are_where_they_are_between_its_layers(monkeypatch):
    model = make_model('egnn-published', {'features': 16, 'layers': 3}).double()
    for name, weight in model.named_parameters():
        if '.weight.2.' in name:
            weight.mul_(1e3)  # its steps begin next to zero
    batch, seen = masked(batch_for(model)), []
    step = type(model.layers[0]).forward
    monkeypatch.setattr(type(model.layers[0]), 'forward', lambda *of: seen.append(of[2]) or step(*of))
    model(batch)
    still = batch.fixed.all(dim=1)
    for positions in seen[1:]:
        np.testing.assert_allclose(positions[still], seen[0][still], atol=1e-9)
        assert (positions[~still] - seen[0][~still]).abs().max() > 1e-2


@torch.no_grad()
def test_the_crystals_beside_a_fixed_one_do_not_notice(model):
    batch = batch_for(model)
    free, held = model(batch)[-1], model(masked(batch))[-1]
    third = batch.structure_index == 2
    np.testing.assert_allclose(held.fractional[third], free.fractional[third], atol=1e-12)
    np.testing.assert_allclose(held.cell[2], free.cell[2], atol=1e-12)
    nothing = dataclasses.replace(batch, fixed=torch.zeros_like(masked(batch).fixed), fixed_cell=torch.zeros(3).bool())
    again = model(nothing)[-1]
    np.testing.assert_allclose(again.fractional, free.fractional, atol=1e-9)
    np.testing.assert_allclose(again.cell, free.cell, atol=1e-12)


@pytest.mark.parametrize('architecture', ['e3relax-h2', 'deeprelax', 'painn'])
@torch.no_grad()
def test_what_is_fixed_turns_and_shifts_with_the_crystal_and_its_atoms_have_no_order(architecture):
    model, crystals = random_network(architecture), batch_of(*rattled())
    batch = masked(make_batch(crystals, model.graph, dtype=torch.float64))
    expected = model(batch)[-1]
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    turned = crystals.replace((crystals.positions + 0.7) @ turn, crystals.cell @ turn)
    found = model(masked(make_batch(turned, model.graph, dtype=torch.float64)))[-1]
    shift = torch.from_numpy(turned.fractional() - crystals.fractional())
    np.testing.assert_allclose(found.fractional - shift, expected.fractional, atol=1e-9)
    if architecture != 'painn':  # whose head for the cell depends on the orientation
        np.testing.assert_allclose(found.cell, expected.cell @ torch.from_numpy(turn), atol=1e-9)
    order = np.concatenate([np.arange(start, end)[::-1] for start, end in itertools.pairwise(crystals.offsets)])
    reversed_crystals = dataclasses.replace(
        crystals, numbers=crystals.numbers[order], positions=crystals.positions[order]
    )
    other = make_batch(reversed_crystals, model.graph, dtype=torch.float64)
    found = model(dataclasses.replace(other, fixed=batch.fixed[order.copy()], fixed_cell=batch.fixed_cell))[-1]
    np.testing.assert_allclose(found.fractional, expected.fractional[order.copy()], atol=1e-9)


@torch.no_grad()
def test_padding_takes_the_masks_along():
    model = random_network('e3relax')
    batch = masked(batch_for(model))
    shape = BatchShape.of(batch).padded()
    assert shape != BatchShape.of(batch_for(model)).padded()
    padded = padded_batch(batch, shape)
    assert (len(padded.fixed), len(padded.fixed_cell)) == (shape.atoms, shape.crystals)
    found, expected = model(padded)[-1], model(batch)[-1]
    np.testing.assert_allclose(found.fractional[: len(batch.numbers)], expected.fractional, atol=1e-12)


def test_a_network_that_knows_nothing_of_masks_is_held_by_its_base_class():
    class Shift(RelaxationModel):
        def forward(self, batch):
            return [Geometry(batch.fractional + 0.1, 2 * batch.cell)]

    batch = masked(batch_for(random_network('e3relax')))
    found = Shift()(batch)[0]
    assert (found.fractional[batch.fixed] == batch.fractional[batch.fixed]).all()
    assert (found.cell[0] == batch.cell[0]).all()
    assert (found.cell[1] == 2 * batch.cell[1]).all()


def test_drift_is_taken_off_where_nothing_is_fixed():
    batch = masked(batch_for(random_network('e3relax')))
    displacement = torch.full((len(batch.numbers), 3), 0.1, dtype=torch.float64)
    moved = displaced(batch.fractional, displacement, batch.cell, batch) - batch.fractional
    of_crystal = [moved[batch.structure_index == k] for k in range(3)]
    free = ~batch.fixed[batch.structure_index == 0]
    assert (of_crystal[0][free].abs() > 1e-3).all()  # atoms shift against the fixed one
    np.testing.assert_allclose(of_crystal[1][:, :2].mean(dim=0), 0, atol=1e-12)
    np.testing.assert_allclose(of_crystal[2], 0, atol=1e-12)


@pytest.mark.parametrize('coordinates', ['fractional', 'pacd'])
def test_the_loss_counts_what_may_move(coordinates):
    free = batch_for(random_network('e3relax'))
    batch = masked(free)
    target = Target.of(Geometry(batch.fractional, batch.cell))
    moves = 0.01 * torch.arange(1, 3 * len(batch.numbers) + 1, dtype=torch.float64).view(-1, 3) / len(batch.numbers)
    predicted = Geometry(batch.fractional + moves, 1.02 * batch.cell)
    found = structure_losses([predicted], target, batch, coordinates)[:, 0]
    unmasked = structure_losses([predicted], target, free, coordinates)[:, 0]
    assert found[0, 1] == 0
    np.testing.assert_array_equal(found[2], unmasked[2])
    cell = (predicted if coordinates == 'pacd' else target).cell[0]
    change = predicted.fractional @ cell - batch.fractional @ batch.cell[0]
    if coordinates == 'fractional':
        change = moves @ cell
    own = torch.nonzero(batch.structure_index == 0)[1:, 0]  # all but the fixed atom
    np.testing.assert_allclose(found[0, 0], change[own].abs().mean(), rtol=1e-9)


def test_a_crystal_without_a_free_coordinate_has_no_error():
    batch = batch_for(random_network('e3relax'))
    batch = dataclasses.replace(batch, fixed=torch.ones(len(batch.numbers), 3, dtype=torch.bool))
    target = Target.of(Geometry(batch.fractional + 0.01, batch.cell))
    assert (structure_losses([Geometry(batch.fractional, batch.cell)], target, batch) == 0).all()


@pytest.mark.parametrize('architecture', ['deeprelax', 'deeprelax-published'])
def test_distances_that_nothing_can_change_do_not_count(architecture):
    model = random_network(architecture)
    batch = batch_for(model)
    every = torch.ones(len(batch.numbers), 3, dtype=torch.bool)
    still = dataclasses.replace(batch, fixed=every, fixed_cell=torch.ones(3, dtype=torch.bool))
    target = Target.of(Geometry(batch.fractional, batch.cell))
    losses, errors = model.loss(still, target, DEFAULT_LOSS)
    assert (losses == 0).all()
    assert (errors == 0).all()
    with_free_cell = model.loss(dataclasses.replace(still, fixed_cell=None), target, LossSettings(cell_weight=0.0))[0]
    np.testing.assert_allclose(
        with_free_cell.detach(), model.loss(batch, target, LossSettings(cell_weight=0.0))[0].detach(), rtol=1e-9
    )


def test_an_atom_fixed_in_part_moves_in_the_plane_of_the_free_lattice_vectors():
    batch = masked(batch_for(random_network('e3relax')))
    free = free_directions(batch.cell, batch)
    first = int(batch.n_atoms[0])
    along = torch.linalg.inv(batch.cell[1])
    np.testing.assert_allclose(free[0], 0, atol=1e-12)
    np.testing.assert_allclose((free[first] @ along)[:, 2], 0, atol=1e-9)
    np.testing.assert_allclose(free[first] @ batch.cell[1, 0], batch.cell[1, 0], atol=1e-9)
