"""The symmetry of predictions in single precision: hidden by rounding, and restored."""

from __future__ import annotations

import numpy as np
import pytest
import spglib
from ase import Atoms
from ase.build import bulk

from aiida_e3relax.crystals.rounding import MOST_ROUNDING, NotOfRoundingError, restore_symmetry
from aiida_e3relax.crystals.structures import Crystals
from tests.gnn.crystals import PROTOTYPES, batch_of, rattled


def group_of(crystal: Crystals, precision: float) -> str:
    cell = (crystal.cell[0].tolist(), crystal.fractional().tolist(), crystal.numbers.tolist())
    return spglib.get_symmetry_dataset(cell, symprec=precision).international


def everything(crystal: Crystals) -> np.ndarray:
    return np.ones((len(crystal.numbers), 3), dtype=bool)


def relaxed(start: Crystals) -> Crystals:
    """A symmetric relaxation: another volume and c/a along the axes of the lattice, as the prototypes allow."""
    return start.replace(1.02 * start.positions, 1.02 * start.cell)


def rounded(crystal: Crystals) -> Crystals:
    """What float32 leaves of it, as the network computes: fractional coordinates and cells."""
    fractional, cell = (values.astype(np.float32).astype(np.float64) for values in (crystal.fractional(), crystal.cell))
    noise = np.random.default_rng(0).normal(scale=3e-7, size=fractional.shape)
    fractional, cell = fractional + noise, cell * (1 + 2e-7 * np.random.default_rng(1).normal(size=cell.shape))
    return crystal.replace(np.einsum('ac,acx->ax', fractional, cell[crystal.structure_index]), cell)


@pytest.mark.parametrize('name', PROTOTYPES)
def test_the_space_group_comes_back(name):
    start = batch_of(PROTOTYPES[name]())
    exact = relaxed(start)
    found, correction = restore_symmetry(start, rounded(exact), start.numbers, everything(start))
    for precision in (1e-5, 1e-7, 1e-9):
        assert group_of(found, precision) == group_of(start, 1e-9), precision
    assert 0 < correction < 2e-5
    np.testing.assert_allclose(found.positions, exact.positions, atol=2e-5)
    np.testing.assert_allclose(found.cell, exact.cell, atol=2e-5)


def test_rounding_hides_it_before():
    start = batch_of(PROTOTYPES['rutile']())
    assert group_of(rounded(relaxed(start)), 1e-7) != group_of(start, 1e-7)


def test_what_has_no_symmetry_stays_to_the_last_digit():
    start = batch_of(rattled()[0])
    prediction = rounded(relaxed(start))
    found, correction = restore_symmetry(start, prediction, start.numbers, everything(start))
    assert found is prediction
    assert correction == 0


def test_a_rotation_in_the_prediction_stays():
    start = batch_of(PROTOTYPES['wurtzite']())
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    exact = relaxed(start)
    exact = exact.replace(exact.positions @ turn, exact.cell @ turn)
    found, _ = restore_symmetry(start, rounded(exact), start.numbers, everything(start))
    np.testing.assert_allclose(found.cell, exact.cell, atol=2e-5)
    assert group_of(found, 1e-8) == group_of(start, 1e-8)


def test_what_is_fixed_stays_and_so_does_a_cell():
    start = batch_of(PROTOTYPES['rutile']())
    movable = everything(start)
    movable[0] = False
    moved = start.fractional()
    moved[1:] += 3e-7
    prediction = start.replace(moved @ start.cell[0], start.cell)
    found, _ = restore_symmetry(start, prediction, start.numbers, movable)
    assert np.array_equal(found.cell, start.cell)
    np.testing.assert_allclose(found.fractional()[0], start.fractional()[0], atol=1e-15)


def test_a_lower_symmetry_of_the_input_is_not_raised():
    """Perturbed by more than VASP's precision, as whoever breaks a symmetry on purpose does."""
    atoms = bulk('NaCl', 'rocksalt', a=5.64, cubic=True)
    atoms.positions[0] += [2e-4, 0, 0]
    start = batch_of(atoms)
    prediction = rounded(relaxed(start))
    found, _ = restore_symmetry(start, prediction, start.numbers, everything(start))
    assert group_of(found, 1e-5) == group_of(start, 1e-5) != group_of(batch_of(bulk('NaCl', 'rocksalt', a=5.64)), 1e-5)


def test_what_is_no_rounding_is_left_alone():
    start = batch_of(PROTOTYPES['rock salt']())
    broken = relaxed(start)
    cell = broken.cell.copy()
    cell[0, 0, 0] += 5 * MOST_ROUNDING
    with pytest.raises(NotOfRoundingError, match=r'lacks the symmetry Fm-3m of the crystal by 0\.00'):
        restore_symmetry(start, broken.replace(broken.positions, cell), start.numbers, everything(start))


def test_supercells_keep_their_translations():
    atoms = Atoms(bulk('NaCl', 'rocksalt', a=5.64) * (2, 2, 2))
    start = batch_of(atoms)
    found, _ = restore_symmetry(start, rounded(relaxed(start)), start.numbers, everything(start))
    assert group_of(found, 1e-9) == 'Fm-3m'
