"""Steps that break the symmetry of a crystal: nothing of them keeps it, and what may not move stays."""

import numpy as np
import pytest
from ase.build import bulk, fcc111
from scipy.spatial.transform import Rotation

from aiida_e3relax.crystals.freedom.breaking import DISTANCE, break_symmetry
from aiida_e3relax.crystals.freedom.freedom import Freedom
from aiida_e3relax.crystals.freedom.motion import Motion
from aiida_e3relax.crystals.structures import make_crystals
from aiida_e3relax.crystals.symmetry import SpaceGroup


def crystal_of(atoms):
    return make_crystals([atoms.numbers], [atoms.positions], [atoms.cell.array])


def broken(crystal, freedom=None, seed=0):
    kinds = crystal.numbers.astype(str).tolist()
    motion = Motion.of(crystal, freedom or Freedom(), kinds, crystal)
    return break_symmetry(motion, kinds, 0.2, 0.05, np.random.default_rng(seed))


def steps(start, end):
    """The displacements in A in the cell of the start, and the strain."""
    moves = (end.fractional() - start.fractional()) @ start.cell[0]
    stretch = np.linalg.solve(start.cell[0], end.cell[0])
    values, axes = np.linalg.eigh(stretch @ stretch.T)
    return moves, (axes * np.log(values) / 2) @ axes.T


DOUBLED = bulk('CsCl', 'cesiumchloride', a=4.1).repeat((1, 1, 2))
WURTZITE = bulk('ZnS', 'wurtzite', a=3.8)


@pytest.mark.parametrize('atoms', [DOUBLED, WURTZITE, bulk('GaAs', 'zincblende', a=5.6)], ids=str)
def test_no_part_of_a_step_keeps_the_symmetry(atoms):
    crystal = crystal_of(atoms)
    kinds, end = crystal.numbers.astype(str), broken(crystal)
    group, (moves, strain) = SpaceGroup.of(crystal, kinds), steps(crystal, end)
    assert np.sqrt((moves**2).sum(axis=1).mean()) == pytest.approx(0.2)
    assert np.linalg.norm(strain) == pytest.approx(0.05)
    np.testing.assert_allclose(crystal.cell[0] @ _exp(strain), end.cell[0], atol=1e-9)  # it does not turn
    inverse = np.linalg.inv(crystal.cell[0])
    np.testing.assert_allclose(group.symmetrise_displacements(moves @ inverse), 0, atol=1e-9)
    np.testing.assert_allclose(group.symmetrise_strain(strain), 0, atol=1e-9)
    assert len(group.rotations) > len(SpaceGroup.of(end, kinds).rotations)


def _exp(strain):
    values, axes = np.linalg.eigh(strain)
    return (axes * np.exp(values)) @ axes.T


def test_the_same_numbers_give_the_same_step_turned_with_the_crystal():
    crystal, rotation = crystal_of(WURTZITE), Rotation.from_rotvec([0.3, -1.2, 2.0]).as_matrix()
    turned = crystal.replace(crystal.positions @ rotation.T, crystal.cell @ rotation.T)
    first, second = broken(crystal, seed=3), broken(turned, seed=3)
    np.testing.assert_allclose(first.positions @ rotation.T, second.positions, atol=1e-9)
    np.testing.assert_allclose(first.cell @ rotation.T, second.cell, atol=1e-9)
    assert np.abs(broken(crystal, seed=4).positions - first.positions).max() > 0.05


def test_what_may_not_move_stays():
    crystal = crystal_of(DOUBLED)
    end = broken(crystal, Freedom('positions', fixed={'abc': [0], 'c': [1]}))
    np.testing.assert_array_equal(end.cell, crystal.cell)
    moves = end.positions - crystal.positions
    np.testing.assert_allclose(moves[0], 0, atol=1e-12)
    assert abs(moves[1, 2]) < 1e-12
    assert np.linalg.norm(moves) / np.sqrt(3) == pytest.approx(0.2)  # over the sites that move
    assert broken(crystal, Freedom('shape')).volumes[0] == pytest.approx(crystal.volumes[0])
    slab = crystal_of(fcc111('Cu', (1, 1, 3), a=3.7, vacuum=6.0, periodic=True))
    layer = broken(slab, Freedom('in-plane', vacuum='c'))
    np.testing.assert_array_equal(layer.cell[0, 2], slab.cell[0, 2])
    assert np.abs(layer.cell[0, :2] - slab.cell[0, :2]).max() > 0.01


def test_what_has_no_symmetry_has_none_to_break():
    rattled = WURTZITE.copy()
    rattled.rattle(4 * DISTANCE, seed=2)
    assert broken(crystal_of(rattled)) is None
    assert broken(crystal_of(WURTZITE), Freedom('positions', fixed={'abc': [0, 1, 2, 3]})) is None


def test_one_site_moves_by_strain_alone():
    crystal = crystal_of(bulk('Cu', a=3.6))
    moves, strain = steps(crystal, broken(crystal))
    np.testing.assert_allclose(moves, 0, atol=1e-9)
    assert np.linalg.norm(strain) == pytest.approx(0.05)
    assert abs(np.trace(strain)) < 1e-12


def test_no_step_holds_a_common_shift_along_vectors_that_hold_no_site():
    height = Freedom('positions', fixed={'c': [0]})
    end = broken(crystal_of(WURTZITE), height)
    shift = (end.fractional() - crystal_of(WURTZITE).fractional()).mean(axis=0)
    np.testing.assert_allclose(shift[:2], 0, atol=1e-12)
    assert broken(crystal_of(bulk('Cu', a=3.6)), height) is None
