"""Crystals turned to the standard orientation, and back."""

import numpy as np

from aiida_e3relax.crystals.orientation import Frame
from tests.gnn.crystals import batch_of, rattled


def test_crystals_are_turned_and_turned_back():
    crystals = batch_of(*rattled())
    crystals = crystals.replace(crystals.positions, crystals.cell * [[1], [1], [-1]])  # left-handed
    frame = Frame.of(crystals, standard=True)
    turned = frame.turned(crystals)
    np.testing.assert_allclose(np.triu(turned.cell, 1), 0, atol=1e-12)
    assert (np.diagonal(turned.cell, axis1=1, axis2=2) > 0).all()
    np.testing.assert_allclose(np.linalg.det(frame.rotation), 1, atol=1e-12)
    back = frame.turned_back(turned)
    np.testing.assert_allclose(back.positions, crystals.positions, atol=1e-12)
    np.testing.assert_allclose(back.cell, crystals.cell, atol=1e-12)
