"""Predictions held to what pairs say their relaxations moved, and unrelaxed crystals scaled within it."""

import dataclasses

import numpy as np
import pytest
from ase.build import bulk, mx2

from aiida_e3relax.crystals.freedom.pairs import hold, scaled
from aiida_e3relax.crystals.pairs import Pairs
from tests.gnn.crystals import batch_of


def pairs_of(*moves):
    """Layers of MoS2, of which the pairs say `moves`."""
    layers = batch_of(*[mx2('MoS2', vacuum=8.0) for _ in moves])
    count = len(moves)
    return Pairs(layers, layers, np.full(count, 'test'), np.full(count, 'x'), about={'moves': np.array(moves)})


def strained(crystals, factors):
    cell = crystals.cell * np.array(factors)[:, None]
    positions = np.einsum('ac,acx->ax', crystals.fractional(), cell[crystals.structure_index])
    return crystals.replace(positions, cell)


def test_a_layer_keeps_its_vacuum_and_takes_the_strain_in_its_plane():
    pairs = pairs_of('in-plane', 'cell')
    predicted = strained(pairs.unrelaxed, [1.05, 1.05, 1.2])
    held, failed = hold(predicted, pairs)
    assert failed == []
    np.testing.assert_allclose(held.cell[0][2], pairs.unrelaxed.cell[0][2], atol=1e-12)
    np.testing.assert_allclose(held.cell[0][:2], predicted.cell[0][:2], atol=1e-9)
    np.testing.assert_array_equal(held.cell[1], predicted.cell[1])
    np.testing.assert_array_equal(held.positions[3:], predicted.positions[3:])


def test_fixed_sites_stay_while_the_lattice_relaxes():
    pairs = pairs_of('in-plane')
    fixed = np.zeros((3, 3), dtype=bool)
    fixed[1] = True
    predicted = strained(pairs.unrelaxed, [1.05, 1.05, 1.0])
    moved = predicted.replace(predicted.positions + np.array([[0, 0, 0.3], [0, 0, 0], [0, 0, 0]]), predicted.cell)
    held, _ = hold(moved, dataclasses.replace(pairs, fixed=fixed))
    np.testing.assert_allclose(held.fractional()[1], pairs.unrelaxed.fractional()[1], atol=1e-12)
    assert held.positions[0, 2] - pairs.unrelaxed.positions[0, 2] == pytest.approx(0.3)


def test_what_is_skipped_or_cannot_be_held_stays_as_it_is():
    pairs = pairs_of('in-plane', 'in-plane')
    predicted = strained(pairs.unrelaxed, [1.05, 1.05, 1.2])
    broken = predicted.replace(predicted.positions, np.array([predicted.cell[0], np.zeros((3, 3))]))
    held, failed = hold(broken, pairs, skipped=[0])
    assert failed == [1]
    np.testing.assert_array_equal(held.cell[0], predicted.cell[0])
    np.testing.assert_array_equal(held.cell[1], pairs.unrelaxed.cell[1])


def test_what_no_word_says_is_free():
    pairs = pairs_of('cell, a held', '')
    predicted = strained(pairs.unrelaxed, [1.05, 1.05, 1.2])
    assert hold(predicted, pairs) == (predicted, [])


@pytest.mark.parametrize('factor', [0.9, 1.3])
def test_layers_are_scaled_in_their_plane_and_bulk_in_all_directions(factor):
    layers = pairs_of('in-plane', 'cell')
    before = layers.unrelaxed
    found = scaled(layers, factor * before.volumes)
    np.testing.assert_allclose(found.volumes, factor * before.volumes)
    np.testing.assert_array_equal(found.cell[0][2], before.cell[0][2])
    np.testing.assert_allclose(found.positions[:3, 2], before.positions[:3, 2], atol=1e-12)
    np.testing.assert_allclose(found.cell[0][:2], np.sqrt(factor) * before.cell[0][:2])
    np.testing.assert_allclose(found.cell[1], np.cbrt(factor) * before.cell[1])
    crystal = batch_of(bulk('Cu'))
    untold = Pairs(crystal, crystal, np.array(['test']), np.array(['x']))
    np.testing.assert_allclose(scaled(untold, 2 * crystal.volumes).volumes, 2 * crystal.volumes)
