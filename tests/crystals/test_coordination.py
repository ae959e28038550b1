"""The first shell of each site, and which have another one after a relaxation."""

import numpy as np
import pytest
from ase.build import bulk, fcc111, mx2

from aiida_e3relax.crystals.coordination import Shells, changed_shells, nearest_neighbours
from tests.gnn.crystals import PROTOTYPES, batch_of, rattled

KNOWN = {
    'rock salt': [{17: 6}, {11: 6}],
    'zinc blende': [{33: 4}, {31: 4}],
    'caesium chloride': [{17: 8, 55: 6}, {17: 6, 55: 8}],
    'fluorite': [{9: 8}] + [{9: 6, 20: 4}] * 2,  # the next fluorine, as in bcc, is but 15 % further
    'hcp': [{12: 12}] * 2,
    'rutile': [{8: 6}] * 2 + [{22: 3}] * 4,
    'wurtzite': [{8: 4}] * 2 + [{30: 4}] * 2,
    'baddeleyite': [{8: 7}] * 4 + [{40: 3}] * 4 + [{40: 4}] * 4,
}


def compositions(atoms):
    shells = Shells.of(batch_of(atoms))
    return [shells.composition(site) for site in range(len(atoms))]


@pytest.mark.parametrize('name', KNOWN)
def test_shells_of_prototypes(name):
    found = compositions(PROTOTYPES[name]())
    assert sorted(map(str, found)) == sorted(map(str, KNOWN[name]))


@pytest.mark.parametrize(
    ('atoms', 'shell'),
    [
        (bulk('Cu'), {29: 12}),
        (bulk('Fe'), {26: 14}),
        (bulk('Si'), {14: 4}),
        (fcc111('Cu', (1, 1, 1), vacuum=9), {29: 6}),
    ],
    ids=['fcc', 'bcc with its second neighbours', 'diamond', 'a single layer'],
)
def test_elements_and_layers(atoms, shell):
    atoms.pbc = True
    assert compositions(atoms) == [shell] * len(atoms)


def test_layers_have_their_shell_whatever_the_vacuum():
    for vacuum in (6.0, 20.0):
        layer = mx2('MoS2', kind='2H', a=3.18, thickness=3.19, vacuum=vacuum)
        layer.pbc = True
        assert compositions(layer) == [{16: 6}, {42: 3}, {42: 3}]


def test_neighbours_are_those_of_a_plain_sum_over_images():
    atoms = rattled(3)[1]
    numbers, distances = nearest_neighbours(batch_of(atoms), 10)
    shifts = np.stack(np.meshgrid(*[np.arange(-4, 5)] * 3, indexing='ij'), axis=-1).reshape(-1, 3) @ atoms.cell.array
    for site in range(len(atoms)):
        found = np.linalg.norm(atoms.positions[:, None] + shifts - atoms.positions[site], axis=2)
        order = np.argsort(found.ravel())[1:11]
        np.testing.assert_allclose(distances[site], found.ravel()[order])
        np.testing.assert_array_equal(numbers[site], atoms.numbers[order // len(shifts)])


@pytest.mark.parametrize('seed', range(3))
def test_turning_scaling_repeating_reordering_and_another_cell_change_nothing(seed):
    rng = np.random.default_rng(seed)
    for atoms in rattled(seed):
        expected = compositions(atoms)
        other = atoms.copy()
        other.set_cell(1.2 * other.cell.array @ np.linalg.qr(rng.normal(size=(3, 3)))[0], scale_atoms=True)
        other.positions += rng.normal(size=3)
        assert compositions(other) == expected
        assert compositions(atoms * (2, 1, 3)) == expected * 6
        skewed = atoms.copy()
        skewed.set_cell(np.array([[1, 0, 0], [7, 1, 0], [-3, 2, 1]]) @ atoms.cell.array)
        assert compositions(skewed) == expected
        order = rng.permutation(len(atoms))
        assert compositions(atoms[order]) == [expected[site] for site in order]


def test_a_site_that_gains_neighbours_of_another_kind_has_changed():
    start = bulk('GaAs', 'zincblende', a=5.65, cubic=True)
    end = start.copy()
    end.numbers[[0, 1]] = end.numbers[[1, 0]]  # an antisite pair
    changed = changed_shells(batch_of(start), batch_of(end))
    assert changed[2] == ({33: 4}, {31: 1, 33: 3})
    assert changed_shells(batch_of(start), batch_of(start)) == {}


def test_a_reconstruction_is_seen_and_a_strain_is_not():
    """Rock salt to caesium chloride is a rhombohedral strain of the primitive cell."""

    def strained(angle):
        lengths = np.eye(3) * (1 - np.cos(np.radians(angle))) + np.cos(np.radians(angle))
        atoms = bulk('NaCl', 'rocksalt', a=5.64)
        atoms.set_cell(3.9 * np.linalg.cholesky(lengths), scale_atoms=True)
        return batch_of(atoms)

    rock_salt, halfway, caesium_chloride = map(strained, (60, 66, 90))
    assert changed_shells(rock_salt, caesium_chloride) == {0: ({17: 6}, {11: 6, 17: 8}), 1: ({11: 6}, {11: 8, 17: 6})}
    assert changed_shells(rock_salt, halfway) == {}


def test_small_displacements_change_no_shell_of_a_crystal_between_two_coordinations():
    """Bcc has 8 neighbours, and 6 a little further; noise must not decide."""
    atoms = bulk('Fe', cubic=True) * 2
    moved = atoms.copy()
    moved.rattle(0.05, seed=1)
    assert changed_shells(batch_of(atoms), batch_of(moved)) == {}
