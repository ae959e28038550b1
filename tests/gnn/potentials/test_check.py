"""The check of potentials passes EMT, and finds every calculator that is wrong on purpose."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from ase.units import GPa

from aiida_e3relax.gnn.potentials.check import check_calculator, compare_precisions, make_check_crystal
from aiida_e3relax.gnn.potentials.handedness import make_right_handed

CRYSTAL = make_check_crystal(
    Atoms('CuAu', [[0, 0, 0], [1.4, 2, 1.6]], cell=[[2.7, 0.3, 0], [0, 3.8, 0.5], [0.3, 0, 3.8]], pbc=True)
)

FIRST = 'energy, forces and stress of AuCu'
FORCES, STRESS = 'forces against the energy', 'stress against the energy'


class Wrong(EMT):
    """EMT, and then what `change` does to its results of a crystal."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def calculate(self, atoms=None, *arguments, **options):
        super().calculate(atoms, *arguments, **options)
        self.change(self.results, atoms)


def scale(name, factor):
    def change(results, atoms):
        results[name] = results[name] * factor

    return change


def swap_shear(results, atoms):
    results['stress'] = results['stress'][[0, 1, 2, 5, 4, 3]]


def state_the_mean_energy(results, atoms):
    results['energy'] /= len(atoms)


def take_signed_volume(results, atoms):
    results['stress'] = results['stress'] * np.sign(np.linalg.det(atoms.cell.array))


def favour_a_direction(results, atoms):
    results['energy'] += 0.1 * atoms.cell[0, 0]


def prefer_a_hand(results, atoms):
    results['energy'] += 0.1 * np.sign(np.linalg.det(atoms.cell.array))


def favour_a_place(results, atoms):
    results['energy'] += 0.1 * atoms.positions[0, 0]


def favour_an_order(results, atoms):
    results['energy'] += 0.1 * atoms.numbers[0]


def count_the_first_atom_twice(results, atoms):
    results['forces'][0] *= 2


def pull_single_atoms(results, atoms):
    if len(atoms) == 1:
        results['forces'] = results['forces'] + 0.1


def state_three_by_three(results, atoms):
    results['forces'] = results['forces'].T


class Drifting(Wrong):
    """Every energy is larger than the one before."""

    calls = 0

    def __init__(self):
        super().__init__(self.drift)

    def drift(self, results, atoms):
        self.calls += 1
        results['energy'] += 1e-4 * self.calls


def failures(calculator, crystal=CRYSTAL, dtype='float64'):
    return {
        finding.check: finding.found for finding in check_calculator(calculator, dtype, crystal) if not finding.passed
    }


@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_emt_passes(dtype):
    findings = check_calculator(EMT(), dtype, CRYSTAL)
    assert len(findings) == 12
    assert not [finding for finding in findings if not finding.passed]
    assert findings[0].check == FIRST


@pytest.mark.parametrize(
    ('change', 'check', 'words'),
    [
        (scale('stress', 1 / GPa), STRESS, 'states 160 times the slope: in GPa'),
        (scale('stress', -10 / GPa), STRESS, 'states -1.6e+03 times the slope: in kB, with the wrong sign'),
        (scale('stress', -1), STRESS, 'states -1 times the slope, with the wrong sign'),
        (swap_shear, STRESS, 'not that in every direction'),
        (scale('forces', 0.5), FORCES, 'states 0.5 times the slope'),
        (scale('forces', -1), FORCES, 'with the wrong sign'),
        (count_the_first_atom_twice, 'sum of the forces', 'eV/A'),
        (state_the_mean_energy, 'supercell of 2', 'eV/atom'),
        (favour_a_direction, 'rotation', 'eV/atom'),
        (favour_a_place, 'translation', 'eV/atom'),
        (favour_an_order, 'order of the atoms', 'eV/atom'),
        (prefer_a_hand, 'reflection', 'eV/atom'),
        (pull_single_atoms, 'an isolated atom', '1.0e-01 eV/A'),
        (scale('energy', float('nan')), FIRST, 'energy nan eV'),
        (state_three_by_three, FIRST, 'forces of shape (3, 2)'),
    ],
)
def test_wrong_calculators_fail(change, check, words):
    assert words in failures(Wrong(change))[check]


def test_energies_that_depend_on_what_came_before_fail():
    assert 'the same crystal again' in failures(Drifting())


def test_the_other_checks_go_on_where_one_breaks():
    def break_larger_cells(results, atoms):
        if len(atoms) > len(CRYSTAL):
            raise RuntimeError('too large')

    assert failures(Wrong(break_larger_cells)) == {'supercell': 'RuntimeError: too large'}


def test_elements_that_it_does_not_know_are_no_numbers():
    (found,) = check_calculator(EMT(), 'float64')  # of MgO
    assert not found.passed
    assert 'NotImplementedError' in found.found
    assert 'name a crystal of elements that it knows' in found.found


def test_small_forces_tell_nothing():
    relaxed = Atoms('Cu', cell=[[0, 1.8, 1.8], [1.8, 0, 1.8], [1.8, 1.8, 0]], pbc=True)
    assert 'up to 0.000 eV/A' in failures(EMT(), relaxed)['energy, forces and stress of Cu']


def test_left_handed_cells_have_the_stress_of_right_handed_ones():
    calculator = Wrong(take_signed_volume)
    assert {*failures(calculator)} == {'reflection', 'left-handed cell vectors'}
    make_right_handed(calculator)
    assert not failures(calculator)


def test_left_handed_cells_are_computed_once():
    atoms = CRYSTAL.copy()
    atoms.set_cell(-atoms.cell.array)
    calculator = atoms.calc = Drifting()
    make_right_handed(calculator)
    energy, stress = atoms.get_potential_energy(), atoms.get_stress()
    assert calculator.calls == 1
    atoms.positions[0, 0] += 0.01
    assert atoms.get_potential_energy() != energy
    assert not np.allclose(atoms.get_stress(), stress)
    assert calculator.calls == 2
    np.testing.assert_array_equal(calculator.atoms.cell.array, atoms.cell.array)


def test_crystals_of_the_check_have_nothing_that_is_zero_by_symmetry():
    for crystal in (make_check_crystal(), CRYSTAL):
        assert len(crystal) > 1
        assert np.abs(crystal.get_all_distances(mic=True)[0, 1:]).min() > 1.5
        lengths, angles = np.split(crystal.cell.cellpar(), 2)
        assert np.unique(lengths.round(3)).size == 3
        assert np.abs(angles - 90).min() > 0.1


def test_precisions_are_set_side_by_side():
    assert compare_precisions(EMT(), EMT(), CRYSTAL).passed
    found = compare_precisions(Wrong(scale('forces', 1.2)), EMT(), CRYSTAL)
    assert (found.check, found.passed) == ('float32 beside float64', False)
