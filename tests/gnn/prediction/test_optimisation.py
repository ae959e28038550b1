"""Steps of a potential under every freedom: what may not move stays, and the end is the minimum of what may."""

import functools

import numpy as np
import pytest
import spglib
from ase.build import bulk, fcc111
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixScaled
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from aiida_e3relax.crystals.freedom.constraints import movable_coordinates
from aiida_e3relax.crystals.freedom.freedom import Freedom
from aiida_e3relax.crystals.freedom.motion import Motion
from aiida_e3relax.gnn.potentials.evaluation import evaluate_alone
from aiida_e3relax.gnn.prediction import optimisation
from aiida_e3relax.gnn.prediction.optimisation import KILOBAR, MovingCrystal, relax_crystal
from aiida_e3relax.gnn.prediction.settings import PotentialSettings
from tests.gnn.crystals import batch_of

TIGHT = PotentialSettings('emt', 'input', 300, 1e-3, 0.1)
STILL = 1e-8
"""In A: what may not move."""

IN_PLANE = Freedom('in-plane', vacuum='c')


BY_ASE = {
    'cell': FrechetCellFilter,
    'positions': lambda atoms: atoms,
    'shape': lambda atoms: FrechetCellFilter(atoms, constant_volume=True),
}


class Single(EMT):
    """EMT whose numbers have single precision, as those of most potentials."""

    def calculate(self, *arguments, **options):
        super().calculate(*arguments, **options)
        self.results = {name: np.asarray(value, dtype=np.float32) for name, value in self.results.items()}


def alloy():
    """Cu3Au without any symmetry, in a skewed cell."""
    atoms = bulk('Cu', a=3.8, cubic=True)
    atoms.numbers[0] = 79
    atoms.set_cell(atoms.cell.array @ [[1.04, 0.06, 0], [0, 0.97, 0.03], [0.02, 0, 1]], scale_atoms=True)
    atoms.rattle(0.1, seed=1)
    return atoms


def slab(lean=0.0):
    atoms = fcc111('Cu', (1, 1, 3), a=3.7, vacuum=6.0, periodic=True)
    atoms.numbers[0] = 29
    atoms.numbers[2] = 47
    atoms.cell[2, :2] = lean
    atoms.rattle(0.05, seed=1)
    return atoms


def motion_of(atoms, freedom):
    crystal = batch_of(atoms)
    whole = freedom.holding(movable_coordinates(atoms))
    return Motion.of(crystal, whole, crystal.numbers.astype(str).tolist(), crystal)


def finish(steps, calculator):
    """Return what steps lead to, a calculator asked for each."""
    results = None
    while True:
        try:
            results = evaluate_alone(calculator, steps.send(results))
        except StopIteration as end:
            return end.value


def relaxed(atoms, freedom, settings=TIGHT, calculator=None):
    """Return the crystal, as ASE's with EMT, and what the steps say of it."""
    stepped = finish(relax_crystal(motion_of(atoms, freedom), settings), calculator or EMT())
    end = atoms.copy()
    end.set_constraint()
    end.set_cell(stepped.crystal.cell[0])
    end.positions = stepped.crystal.positions
    end.calc = EMT()
    return end, stepped


def energy_of(atoms):
    copy = atoms.copy()
    copy.calc = EMT()
    return copy.get_potential_energy()


def fractional(atoms):
    return atoms.positions @ np.linalg.inv(atoms.cell.array)


@functools.cache
def by_ase(moves):
    """The energy of the alloy as ASE's own coordinates relax it."""
    atoms = alloy()
    atoms.calc = EMT()
    BFGS(BY_ASE[moves](atoms), logfile=None).run(fmax=2e-3, steps=200)
    return atoms.get_potential_energy()


@pytest.mark.parametrize('calculator', [EMT, Single])
@pytest.mark.parametrize('moves', BY_ASE)
def test_the_end_is_the_minimum_that_ase_finds_in_its_own_coordinates(moves, calculator):
    end, stepped = relaxed(alloy(), Freedom(moves), calculator=calculator())
    assert end.get_potential_energy() == pytest.approx(by_ase(moves), abs=1e-4)
    assert end.get_potential_energy() < energy_of(alloy()) - 0.1
    assert stepped.measured.is_within(TIGHT)
    assert stepped.measured.energy == pytest.approx(end.get_potential_energy() / 4, abs=1e-5)
    assert 0 < stepped.steps < 100


def test_positions_leave_the_cell_and_its_stress():
    end, stepped = relaxed(alloy(), Freedom('positions'))
    np.testing.assert_array_equal(end.cell.array, alloy().cell.array)
    assert stepped.measured.stress is None
    assert np.abs(end.get_stress()).max() * KILOBAR > 10


def test_shape_keeps_the_volume_and_leaves_a_pressure_alone():
    end, stepped = relaxed(alloy(), Freedom('shape'))
    assert end.get_volume() == pytest.approx(alloy().get_volume(), rel=1e-12)
    stress = end.get_stress(voigt=False) * KILOBAR
    deviator = np.linalg.norm(stress - np.trace(stress) / 3 * np.eye(3), 2)
    assert deviator == pytest.approx(stepped.measured.stress, abs=1e-6)
    assert stepped.measured.stress < 0.1
    assert abs(np.trace(stress)) > 10


def test_volume_scales_the_cell_until_no_pressure_is_left():
    start = alloy()
    end, stepped = relaxed(start, Freedom('volume'))
    growth = end.cell.array @ np.linalg.inv(start.cell.array)
    np.testing.assert_allclose(growth, growth[0, 0] * np.eye(3), atol=1e-12)
    assert abs(growth[0, 0] - 1) > 1e-3
    np.testing.assert_allclose(fractional(end), fractional(start), atol=1e-12)
    assert abs(np.trace(end.get_stress(voigt=False))) / 3 * KILOBAR == pytest.approx(stepped.measured.stress, abs=1e-6)
    assert stepped.measured.is_within(TIGHT)
    assert end.get_potential_energy() < energy_of(start)


@pytest.mark.parametrize('lean', [0.0, 0.5])
def test_in_plane_keeps_the_vacuum_and_leaves_no_stress_in_the_layer(lean):
    start = slab(lean)
    end, stepped = relaxed(start, IN_PLANE)
    np.testing.assert_array_equal(end.cell.array[2], start.cell.array[2])
    np.testing.assert_allclose(end.cell.array[:2, 2], 0.0, atol=1e-12)
    assert abs(np.linalg.norm(end.cell.array[0]) / np.linalg.norm(start.cell.array[0]) - 1) > 0.01
    assert np.abs(end.get_stress(voigt=False)[:2, :2]).max() * KILOBAR < 0.1 + 1e-6
    assert np.linalg.norm(end.get_forces(), axis=1).max() < 2e-3
    assert stepped.measured.is_within(TIGHT)


def test_fixed_sites_and_coordinates_stay_where_they_are_in_a_cell_that_moves():
    start = alloy()
    start.set_constraint(
        [FixAtoms([0]), FixScaled([1], mask=[False, False, True]), FixScaled([2], [True, True, False])]
    )
    held = np.array([[True] * 3, [False, False, True], [True, True, False], [False] * 3])
    end, stepped = relaxed(start, Freedom())
    np.testing.assert_allclose(fractional(end)[held], fractional(start)[held], atol=STILL)
    assert np.abs(fractional(end) - fractional(start))[~held].min() > 1e-4
    assert np.abs(end.cell.array - start.cell.array).max() > 0.05
    along = np.einsum('ax,cx->ac', end.get_forces(), end.cell.array / np.linalg.norm(end.cell.array, axis=1)[:, None])
    assert np.abs(along[~held]).max() < 2e-3
    assert np.abs(along[held]).max() > 0.05
    assert stepped.measured.is_within(TIGHT)
    assert end.get_potential_energy() < energy_of(start)


def test_held_sites_of_a_slab_keep_their_places():
    start = slab()
    start.set_constraint(FixAtoms([0, 1]))
    end, _ = relaxed(start, Freedom('positions'))
    np.testing.assert_allclose(end.positions[:2], start.positions[:2], atol=STILL)
    assert np.abs(end.positions[2] - start.positions[2]).max() > 1e-3
    assert np.linalg.norm(end.get_forces()[2]) < 1e-3


@pytest.mark.parametrize(
    'freedom', [*map(Freedom, ('cell', 'positions', 'shape', 'volume')), IN_PLANE], ids=lambda freedom: freedom.moves
)
@pytest.mark.parametrize(
    'fixed', [[], [FixAtoms([0]), FixScaled([1], mask=[False, True, False])]], ids=['free', 'fixed']
)
def test_gradients_are_the_slopes_of_the_energy(freedom, fixed):
    atoms = slab(0.5) if freedom.moves == 'in-plane' else alloy()
    atoms.set_constraint(fixed)
    moving = MovingCrystal(motion_of(atoms, freedom), TIGHT)
    rng = np.random.default_rng(0)
    moving.set_x(0.1 * rng.normal(size=moving.ndofs()))
    moving.take(evaluate_alone(EMT(), moving.atoms))
    here, gradient = moving.get_x(), moving.get_gradient()
    for _ in range(3):
        direction = rng.normal(size=moving.ndofs())
        values = []
        for step in (1e-4, -1e-4):
            moving.set_x(here + step * direction)
            moving.take(evaluate_alone(EMT(), moving.atoms))
            values.append(moving.get_value())
        assert gradient @ direction == pytest.approx((values[0] - values[1]) / 2e-4, rel=1e-5, abs=1e-6)


def ordered(seed=None):
    """AuCu in the tetragonal cell of two atoms, two of them, off its symmetry by less than its distance."""
    atoms = bulk('Cu', 'fcc', a=3.9, cubic=True)
    atoms.numbers[[0, 3]] = 79
    atoms *= (1, 1, 2)
    if seed is not None:
        atoms.rattle(1e-4, seed=seed)
        atoms.set_cell(atoms.cell.array + 1e-4 * np.random.default_rng(seed).normal(size=(3, 3)), scale_atoms=True)
    return atoms


def group_of(atoms, distance=1e-5):
    return spglib.get_symmetry_dataset((atoms.cell.array, fractional(atoms), atoms.numbers), symprec=distance).number


@pytest.mark.parametrize('moves', ['cell', 'shape'])
def test_symmetry_is_kept_as_vasp_sees_it(moves):
    start = ordered(1)
    assert group_of(start) == 1
    end, stepped = relaxed(start, Freedom(moves))
    assert group_of(end) == group_of(ordered()) == 123
    assert stepped.steps > 0


def test_with_a_fixed_site_the_symmetry_that_it_has_is_kept_and_it_stays():
    start = ordered(1)
    start.set_constraint(FixAtoms([0]))
    end, _ = relaxed(start, Freedom('positions'))
    np.testing.assert_allclose(end.positions[0], start.positions[0], atol=STILL)
    np.testing.assert_array_equal(end.cell.array, start.cell.array)


def test_symmetry_of_the_raw_crystal_is_kept_where_that_is_asked_for():
    raw, start = ordered(), ordered()
    start.positions[0, 0] += 5e-3
    freedom = Freedom(keep_symmetry=True)
    crystal = batch_of(start)
    motion = Motion.of(crystal, freedom, crystal.numbers.astype(str).tolist(), batch_of(raw))
    stepped = finish(relax_crystal(motion, TIGHT), EMT())
    moved = stepped.crystal.fractional() - crystal.fractional()
    np.testing.assert_allclose(moved, motion.group.symmetrise_displacements(moved), atol=1e-12)
    assert np.abs(stepped.crystal.cell - crystal.cell).max() > 1e-2
    assert len(motion.group.rotations) == 64


def test_a_turned_crystal_takes_the_same_steps():
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turned = alloy()
    turned.set_cell(turned.cell.array @ turn, scale_atoms=True)
    end, stepped = relaxed(alloy(), Freedom())
    other, again = relaxed(turned, Freedom())
    np.testing.assert_allclose(other.cell.array, end.cell.array @ turn, atol=1e-5)
    np.testing.assert_allclose(other.positions, end.positions @ turn, atol=1e-5)
    assert stepped.steps == again.steps


def test_steps_end_at_their_number_and_at_either_bound():
    few = PotentialSettings('emt', 'input', steps=2)
    _, stepped = relaxed(alloy(), Freedom(), few)
    assert (stepped.steps, stepped.measured.is_within(few)) == (2, False)
    forces_alone = PotentialSettings('emt', 'input', 200, 0.05, 1e6)
    _, loose = relaxed(alloy(), Freedom(), forces_alone)
    both = PotentialSettings('emt', 'input', 200, 0.05, 0.5)
    _, strict = relaxed(alloy(), Freedom(), both)
    assert loose.measured.force < 0.05
    assert strict.measured.stress < 0.5 < loose.measured.stress
    assert relaxed(alloy(), Freedom(), PotentialSettings('emt', 'input', 200, 1e6, 1e6))[1].steps == 0


def test_large_crystals_go_by_another_method_to_the_same_end(monkeypatch):
    monkeypatch.setattr(optimisation, 'MOST_OF_BFGS', 3)
    end, stepped = relaxed(alloy(), Freedom(), PotentialSettings('emt', 'input', 500, 1e-3, 0.1))
    assert end.get_potential_energy() == pytest.approx(relaxed(alloy(), Freedom())[0].get_potential_energy(), abs=1e-4)
    assert stepped.measured.is_within(TIGHT)


def test_steps_into_what_is_no_crystal_are_an_error():
    class Imploding(EMT):
        def calculate(self, *arguments, **options):
            super().calculate(*arguments, **options)
            self.results['stress'] = np.array([10.0, 10.0, 10.0, 0.0, 0.0, 0.0])

    with pytest.raises(ValueError, match='the steps lead to what is no crystal'):
        relaxed(alloy(), Freedom(), PotentialSettings('emt', 'input', 500), Imploding())


def test_order_of_sites_and_supercells_change_no_end():
    end, stepped = relaxed(alloy(), Freedom())
    order = [2, 0, 3, 1]
    other, again = relaxed(alloy()[order], Freedom())
    np.testing.assert_allclose(other.positions, end.positions[order], atol=1e-9)
    assert again.steps == stepped.steps
    double, of_double = relaxed(alloy() * (2, 1, 1), Freedom())
    assert of_double.measured.energy == pytest.approx(stepped.measured.energy, abs=1e-5)
    np.testing.assert_allclose(double.positions[4:] - double.positions[:4], [double.cell.array[0] / 2] * 4, atol=1e-8)
