"""A prediction turns with its crystal: models that depend on the Cartesian frame see the standard orientation."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from aiida_e3relax.crystals.orientation import Frame
from aiida_e3relax.crystals.pairs import Pairs, aligned
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.gnn.graph.batch import Geometry, make_batch
from aiida_e3relax.gnn.models.losses import Target, structure_losses
from aiida_e3relax.gnn.models.registry import MODELS
from aiida_e3relax.gnn.prediction.predict import predict
from aiida_e3relax.gnn.training.batches import PreparedPairs, validation_errors
from tests.gnn.crystals import batch_of, rattled
from tests.gnn.networks import random_network

ELEMENTS = [8, 22, 30, 31, 33]
TURN = Rotation.from_rotvec([0.3, -1.1, 0.7]).as_matrix()


def left_handed(crystals: Crystals) -> Crystals:
    """Return the same crystals with the third vector of every cell reversed."""
    return crystals.replace(crystals.positions, crystals.cell * [[1], [1], [-1]])


@pytest.fixture(scope='module', params=MODELS)
def network(request):
    return random_network(request.param)


def predicted(model: torch.nn.Module, crystals: Crystals) -> Crystals:
    result = predict(model, crystals, ELEMENTS, torch.device('cpu'), torch.float64)
    assert not result.faults
    return result.crystals


def test_predictions_turn_with_the_crystal(network):
    crystals = batch_of(*rattled())
    turned = crystals.replace(crystals.positions @ TURN, crystals.cell @ TURN)
    first, second = predicted(network, crystals), predicted(network, turned)
    np.testing.assert_allclose(first.cell @ TURN, second.cell, atol=1e-9)
    np.testing.assert_allclose(first.positions @ TURN, second.positions, atol=1e-9)


def test_a_left_handed_cell_is_the_same_crystal(network):
    crystals = batch_of(*rattled())
    right, left = predicted(network, crystals), predicted(network, left_handed(crystals))
    np.testing.assert_allclose(left_handed(left).cell, right.cell, atol=1e-9)
    np.testing.assert_allclose(left.positions, right.positions, atol=1e-9)


@pytest.mark.parametrize('name', MODELS)
def test_validation_error_is_that_of_the_predictions(name):
    """What `predict` gives, compared with the target in the frame that the model sees, has the errors of validation."""
    model = random_network(name).float()
    before, after = batch_of(*rattled(seed=1)), batch_of(*rattled(seed=2))
    turns = Rotation.random(len(before), rng=3).as_matrix()
    before, after = (
        c.replace(np.einsum('ax,axy->ay', c.positions, turns[c.structure_index]), c.cell @ turns)
        for c in (before, left_handed(after))
    )
    before = left_handed(before)
    pairs = Pairs(before, after, np.full(3, 'val'), np.full(3, 'made'))
    expected = validation_errors(model, PreparedPairs(pairs, model, torch.device('cpu')))

    result = predict(model, before, ELEMENTS, torch.device('cpu'))
    frame = Frame.of(before, standard=model.standard_orientation)
    prediction, target = (
        Geometry(torch.tensor(c.fractional()), torch.tensor(c.cell))
        for c in (frame.turned(result.crystals), frame.turned(aligned(pairs).relaxed))
    )
    batch = make_batch(before, model.graph, dtype=torch.float64)
    found = structure_losses([prediction], Target.of(target), batch)[:, 0].mean(dim=0)
    assert expected[1] > 0.01
    np.testing.assert_allclose(found, expected, rtol=1e-4)
