"""What must not change the prediction does not, to rounding, in float64."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import make_supercell
from e3nn import o3

from aiida_e3relax.gnn.batch import make_batch
from tests.gnn.crystals import FIXED_SITES, batch_of, rattled

TOLERANCE = 1e-9  # A


def predict(network: torch.nn.Module, atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """Return the displacements at fixed cell (N, 3), in A, and the predicted cell (3, 3)."""
    crystals = batch_of(atoms)
    with torch.no_grad():
        geometry = network(make_batch(crystals, network.graph, dtype=torch.float64))[-1]
    cell = geometry.cell[0].numpy()
    return (geometry.fractional.numpy() - crystals.fractional()) @ cell, cell


@pytest.fixture(params=range(3), ids=['GaAs', 'ZnO', 'TiO2'])
def atoms(request) -> Atoms:
    return rattled()[request.param]


@pytest.fixture
def reference(network, atoms) -> tuple[np.ndarray, np.ndarray]:
    displacement, cell = predict(network, atoms)
    assert np.abs(displacement).max() > 1e-2, 'atoms must move for a symmetry test to mean anything'
    assert np.abs(cell - atoms.cell.array).max() > 1e-2, 'so must the cell'
    return displacement, cell


def changed(atoms: Atoms, positions=None, cell=None) -> Atoms:
    result = atoms.copy()
    if cell is not None:
        result.set_cell(cell)
    if positions is not None:
        result.positions = positions
    return result


@pytest.mark.parametrize('improper', [False, True], ids=['rotation', 'reflection'])
def test_rotation_turns_the_prediction(network, atoms, reference, improper):
    torch.manual_seed(3)
    rotation = o3.rand_matrix(dtype=torch.float64).numpy() * (-1 if improper else 1)
    displacement, cell = predict(network, changed(atoms, atoms.positions @ rotation, atoms.cell.array @ rotation))
    np.testing.assert_allclose(displacement, reference[0] @ rotation, atol=TOLERANCE)
    np.testing.assert_allclose(cell, reference[1] @ rotation, atol=TOLERANCE)


def test_translation_and_wrapping_change_nothing(network, atoms, reference):
    shifted = changed(atoms, atoms.positions + [1.3, -7.1, 2.9])
    for candidate in (shifted, changed(shifted, shifted.get_positions(wrap=True))):
        displacement, cell = predict(network, candidate)
        np.testing.assert_allclose(displacement, reference[0], atol=TOLERANCE)
        np.testing.assert_allclose(cell, reference[1], atol=TOLERANCE)


def test_one_atom_in_another_cell_changes_nothing(network, atoms, reference):
    positions = atoms.positions.copy()
    positions[0] += [2, -1, 1] @ atoms.cell.array
    displacement, cell = predict(network, changed(atoms, positions))
    np.testing.assert_allclose(displacement, reference[0], atol=TOLERANCE)
    np.testing.assert_allclose(cell, reference[1], atol=TOLERANCE)


def test_permutation_of_sites_permutes_the_prediction(network, atoms, reference):
    order = np.random.default_rng(1).permutation(len(atoms))
    displacement, cell = predict(network, atoms[order])
    np.testing.assert_allclose(displacement, reference[0][order], atol=TOLERANCE)
    np.testing.assert_allclose(cell, reference[1], atol=TOLERANCE)


@pytest.mark.parametrize(
    'choice',
    [
        [[0, 1, 0], [0, 0, 1], [1, 0, 0]],
        [[-1, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[1, 0, 0], [1, 1, 0], [0, 0, 1]],
        [[2, 1, 0], [1, 1, 0], [3, -1, 1]],
    ],
    ids=['relabelled', 'a to -a', 'b to a+b', 'skewed'],
)
def test_choice_of_lattice_vectors_changes_nothing(network, atoms, reference, choice):
    displacement, cell = predict(network, changed(atoms, cell=choice @ atoms.cell.array))
    np.testing.assert_allclose(displacement, reference[0], atol=TOLERANCE)
    np.testing.assert_allclose(cell, choice @ reference[1], atol=TOLERANCE)


def test_supercell_repeats_the_prediction(network, atoms, reference):
    matrix = np.array([[2, 0, 0], [0, 1, 0], [1, 0, 1]])
    displacement, cell = predict(network, make_supercell(atoms, matrix))
    copies = len(displacement) // len(atoms)
    np.testing.assert_allclose(displacement, np.tile(reference[0], (copies, 1)), atol=TOLERANCE)
    np.testing.assert_allclose(cell, matrix @ reference[1], atol=TOLERANCE)


def test_companions_in_the_batch_change_nothing(network):
    frames = rattled()
    crystals = batch_of(*frames)
    with torch.no_grad():
        together = network(make_batch(crystals, network.graph, dtype=torch.float64))[-1]
    fractional = np.split(together.fractional.numpy(), crystals.offsets[1:-1])
    for index, atoms in enumerate(frames):
        displacement, cell = predict(network, atoms)
        alone = displacement @ np.linalg.inv(cell) + batch_of(atoms).fractional()
        np.testing.assert_allclose(fractional[index], alone, atol=TOLERANCE)
        np.testing.assert_allclose(together.cell[index].numpy(), cell, atol=TOLERANCE)


@pytest.mark.parametrize('name', FIXED_SITES)
def test_sites_fixed_by_symmetry_stay(network, name):
    atoms = FIXED_SITES[name]()
    displacement, cell = predict(network, atoms)
    np.testing.assert_allclose(displacement, 0, atol=1e-8)
    strain = np.linalg.inv(atoms.cell.array) @ cell - np.eye(3)
    assert np.abs(strain).max() > 1e-3, 'the cell is free to change'
    if name != 'hcp':
        np.testing.assert_allclose(strain, strain[0, 0] * np.eye(3), atol=1e-8)
    else:
        np.testing.assert_allclose(strain, np.diag(np.diag(strain)), atol=1e-8)
        assert strain[0, 0] == pytest.approx(strain[1, 1], abs=1e-8)
