"""Which sites symmetry maps on each other, and what makes a crystal symmetric to the last digit."""

import numpy as np
import pytest
from ase.build import bulk

from aiida_e3relax.crystals import symmetry
from aiida_e3relax.crystals.symmetry import SpaceGroup
from tests.gnn.crystals import PROTOTYPES, batch_of

SKEW = np.array([[1, 0, 0], [4, 1, 0], [-3, 2, 1]])


def group_of(atoms):
    crystal = batch_of(atoms)
    return crystal, SpaceGroup.of(crystal, crystal.numbers.astype(str))


def skewed(atoms):
    other = atoms.copy()
    other.set_cell(SKEW @ atoms.cell.array)
    return other


@pytest.mark.parametrize('name', PROTOTYPES)
@pytest.mark.parametrize('skew', [False, True])
def test_operations_map_sites_on_sites(name, skew):
    atoms = PROTOTYPES[name]()
    crystal, group = group_of(skewed(atoms) if skew else atoms)
    fractional = crystal.fractional()
    for rotation, translation, images in zip(group.rotations, group.translations, group.images, strict=True):
        off = fractional @ rotation.T + translation - fractional[images]
        assert np.linalg.norm((off - np.round(off)) @ crystal.cell[0], axis=1).max() < 1e-3
        assert sorted(images) == list(range(len(atoms)))
        np.testing.assert_array_equal(crystal.numbers[images], crystal.numbers)


def test_pieces_and_trees_make_no_difference(monkeypatch):
    atoms = bulk('NaCl', 'rocksalt', a=5.64, cubic=True) * (2, 1, 1)
    _, whole = group_of(atoms)
    monkeypatch.setattr(symmetry, 'MOST_MAPPED', 30)
    np.testing.assert_array_equal(group_of(atoms)[1].images, whole.images)
    monkeypatch.setattr(symmetry, 'MOST_COMPARED', 0)
    np.testing.assert_array_equal(group_of(atoms)[1].images, whole.images)


@pytest.mark.parametrize('name', PROTOTYPES)
def test_the_asymmetry_is_all_that_is_off(name):
    atoms = PROTOTYPES[name]() * (2, 1, 1)
    rng = np.random.default_rng(0)
    atoms.positions += 1e-4 * rng.normal(size=atoms.positions.shape)
    atoms.set_cell(atoms.cell.array + 1e-5 * rng.normal(size=(3, 3)), scale_atoms=True)
    crystal, group = group_of(atoms)
    shift, strain = group.find_asymmetry(crystal.fractional())
    assert np.abs(shift @ crystal.cell[0]).max() < 1e-3
    cell = crystal.cell[0] @ (np.eye(3) + strain + strain @ strain / 2 + strain @ strain @ strain / 6)
    metric = cell @ cell.T
    for rotation in group.rotations:
        np.testing.assert_allclose(rotation.T @ metric @ rotation, metric, atol=1e-10)
    again, _ = group.find_asymmetry(crystal.fractional() + shift)
    np.testing.assert_allclose(again, 0.0, atol=1e-12)
    assert np.abs(shift.mean(axis=0)).max() < 1e-12
