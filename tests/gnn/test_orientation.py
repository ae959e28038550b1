"""A prediction turns with its crystal: models that depend on the Cartesian frame see the standard orientation."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from aiida_e3relax.gnn.models import MODELS
from aiida_e3relax.gnn.orientation import in_orientation_of, in_standard_orientation
from aiida_e3relax.gnn.predict import predict
from aiida_e3relax.gnn.structures import Crystals
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


def test_crystals_are_turned_and_turned_back():
    crystals = left_handed(batch_of(*rattled()))
    turned, rotation = in_standard_orientation(crystals)
    np.testing.assert_allclose(np.triu(turned.cell, 1), 0, atol=1e-12)
    assert (np.diagonal(turned.cell, axis1=1, axis2=2) > 0).all()
    np.testing.assert_allclose(np.linalg.det(rotation), 1, atol=1e-12)
    back = in_orientation_of(turned, crystals, rotation)
    np.testing.assert_allclose(back.positions, crystals.positions, atol=1e-12)
    np.testing.assert_allclose(back.cell, crystals.cell, atol=1e-12)


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
