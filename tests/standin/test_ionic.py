"""The ionic potential: derivatives by finite differences, invariances, charges."""

import numpy as np
import pytest
from ase.build import bulk
from scipy.spatial.transform import Rotation

from aiida_e3relax.standin.engines import create_engine
from aiida_e3relax.standin.engines.ionic import formal_charges
from aiida_e3relax.standin.errors import StandInError
from aiida_e3relax.standin.geometry import FractionalGeometry
from aiida_e3relax.standin.inputs import Inputs

STEP = 1e-4


@pytest.fixture
def crystal(write_inputs):
    """A rattled, sheared MgO cell of 8 atoms: the engine and its geometry."""
    atoms = bulk('MgO', 'rocksalt', a=4.212, cubic=True)
    atoms.set_cell(
        atoms.cell.array @ (np.eye(3) + 0.03 * np.array([[1, 1, 0], [0, -1, 2], [0, 0, 1]])), scale_atoms=True
    )
    atoms.rattle(0.1, seed=4)
    inputs = Inputs.read(write_inputs(atoms, {}))
    return create_engine('ionic', inputs), inputs.poscar.geometry


def evaluate(engine, geometry):
    (energies,) = engine.iterate(geometry)
    return energies.free, engine.response()


def test_forces_are_the_derivative_of_the_energy(crystal):
    engine, geometry = crystal
    _, response = evaluate(engine, geometry)
    inverse = np.linalg.inv(geometry.cell)
    for atom, axis in ((0, 0), (3, 1), (7, 2)):
        shift = np.zeros_like(geometry.scaled)
        shift[atom] = STEP * np.eye(3)[axis] @ inverse
        up, _ = evaluate(engine, FractionalGeometry(geometry.cell, geometry.scaled + shift))
        down, _ = evaluate(engine, FractionalGeometry(geometry.cell, geometry.scaled - shift))
        assert response.forces[atom, axis] == pytest.approx(-(up - down) / (2 * STEP), abs=1e-5)


def test_stress_is_the_derivative_with_respect_to_strain(crystal):
    engine, geometry = crystal
    _, response = evaluate(engine, geometry)
    for i, j in ((0, 0), (1, 1), (0, 1), (1, 2)):
        strain = np.zeros((3, 3))
        strain[i, j] += STEP / 2
        strain[j, i] += STEP / 2
        up, _ = evaluate(engine, FractionalGeometry(geometry.cell @ (np.eye(3) + strain), geometry.scaled))
        down, _ = evaluate(engine, FractionalGeometry(geometry.cell @ (np.eye(3) - strain), geometry.scaled))
        assert response.stress[i, j] * geometry.volume == pytest.approx((up - down) / (2 * STEP), abs=1e-4)


def test_rotation_turns_forces_and_stress(crystal):
    engine, geometry = crystal
    rotation = Rotation.from_euler('xyz', [0.3, -1.1, 2.0]).as_matrix()
    energy, response = evaluate(engine, geometry)
    turned_energy, turned = evaluate(engine, FractionalGeometry(geometry.cell @ rotation.T, geometry.scaled))
    assert turned_energy == pytest.approx(energy, abs=1e-9)
    np.testing.assert_allclose(turned.forces, response.forces @ rotation.T, atol=1e-9)
    np.testing.assert_allclose(turned.stress, rotation @ response.stress @ rotation.T, atol=1e-9)


def test_translation_and_wrapping_change_nothing(crystal):
    engine, geometry = crystal
    energy, response = evaluate(engine, geometry)
    moved_energy, moved = evaluate(
        engine, FractionalGeometry(geometry.cell, (geometry.scaled + [0.37, -0.61, 0.9]) % 1)
    )
    assert moved_energy == pytest.approx(energy, abs=1e-9)
    np.testing.assert_allclose(moved.forces, response.forces, atol=1e-9)


def test_pairs_vanish_smoothly_at_the_cutoff(write_inputs):
    engine = create_engine('ionic', Inputs.read(write_inputs(bulk('MgO', 'rocksalt', a=4.212), {})))
    energies = [
        evaluate(engine, FractionalGeometry(scale * np.eye(3) * 9.0, np.array([[0, 0, 0], [0.5, 0.5, 0.5]])))[0]
        for scale in (1 - 1e-7, 1 + 1e-7)
    ]
    assert energies[0] == pytest.approx(energies[1], abs=1e-5)


@pytest.mark.parametrize(
    ('symbols', 'charges'),
    [
        (['Mg', 'O'], [2, -2]),
        (['Sr', 'Ti', 'O', 'O', 'O'], [2, 4, -2, -2, -2]),
        (['Ga', 'As'], [3, -3]),
        (['Na', 'Na', 'O'], [1, 1, -2]),
        (['Mg', 'Cl'], [1, -1]),
    ],
)
def test_cells_are_neutral(symbols, charges):
    np.testing.assert_allclose(formal_charges(symbols), charges)


@pytest.mark.parametrize('symbols', [['Cu', 'Al'], ['S', 'O']])
def test_crystals_without_both_ions_are_refused(symbols):
    with pytest.raises(StandInError, match='needs anions'):
        formal_charges(symbols)
