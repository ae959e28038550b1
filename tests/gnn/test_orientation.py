"""Models whose result depends on the Cartesian frame see every crystal in the standard orientation."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from aiida_e3relax.gnn.models import make_model
from aiida_e3relax.gnn.orientation import in_orientation_of, in_standard_orientation
from aiida_e3relax.gnn.predict import predict
from aiida_e3relax.gnn.structures import Crystals
from tests.gnn.crystals import batch_of, rattled

ELEMENTS = [8, 22, 30, 31, 33]
TURN = Rotation.from_rotvec([0.3, -1.1, 0.7]).as_matrix()


def left_handed(crystals: Crystals) -> Crystals:
    """Return the same crystals with the third vector of every cell reversed."""
    return crystals.replace(crystals.positions, crystals.cell * [[1], [1], [-1]])


@pytest.fixture(scope='module', params=['e3relax-h2-published', 'e3relax-published', 'deeprelax-published'])
def published(request):
    torch.manual_seed(3)
    return make_model(request.param, {'features': 16, 'layers': 2, 'radial_functions': 16}).double().eval()


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


def test_predictions_turn_with_the_crystal(published):
    crystals = batch_of(*rattled())
    turned = crystals.replace(crystals.positions @ TURN, crystals.cell @ TURN)
    first, second = predicted(published, crystals), predicted(published, turned)
    assert np.abs(first.cell - crystals.cell).max() > 1e-3
    if published.standard_orientation:
        np.testing.assert_allclose(first.cell @ TURN, second.cell, atol=1e-9)
        np.testing.assert_allclose(first.positions @ TURN, second.positions, atol=1e-9)


def test_a_left_handed_cell_is_the_same_crystal(published, network):
    crystals = batch_of(*rattled())
    for model in (published, network) if published.standard_orientation else (network,):
        right, left = predicted(model, crystals), predicted(model, left_handed(crystals))
        np.testing.assert_allclose(left_handed(left).cell, right.cell, atol=1e-9)
        np.testing.assert_allclose(left.positions, right.positions, atol=1e-9)
