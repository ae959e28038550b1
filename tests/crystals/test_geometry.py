import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from scipy.spatial.transform import Rotation

from aiida_e3relax.crystals.geometry import closest_contact, displacements, is_same_crystal, principal_strains
from tests.workflows.crystals import copper_gold, rattled_copper_gold, strained, to_crystals


def test_displacements_do_not_see_a_shift_of_all_atoms_nor_the_image_they_are_written_in():
    start, end = copper_gold(), rattled_copper_gold()
    expected = end.positions - start.positions
    expected -= expected.mean(axis=0)
    end.translate([1.7, -0.4, 1.9])  # about half a cell
    end.wrap()
    assert displacements(to_crystals(start), to_crystals(end)) == pytest.approx(expected, abs=1e-12)


def test_displacements_take_the_nearest_image_in_a_skewed_cell():
    start = bulk('Cu', 'fcc', a=3.615).repeat((2, 1, 1))
    end = start.copy()
    end.positions[0] += end.cell[0] - end.cell[1] + [0.1, 0, 0]
    found = displacements(to_crystals(start), to_crystals(end))
    assert found == pytest.approx(np.array([[0.05, 0, 0], [-0.05, 0, 0]]), abs=1e-12)


def test_displacements_leave_out_what_the_cell_does():
    start = copper_gold()
    end = strained(start, np.diag([0.1, 0.0, -0.05]))
    assert displacements(to_crystals(start), to_crystals(end)) == pytest.approx(np.zeros((4, 3)), abs=1e-12)


def test_principal_strains_are_those_put_in_whatever_the_frame():
    start = copper_gold()
    end = strained(start, np.diag([0.1, 0.0, -0.05]))
    turn = Rotation.from_euler('xyz', [10, 20, 30], degrees=True).as_matrix()
    end.set_cell(end.cell.array @ turn, scale_atoms=True)
    assert principal_strains(to_crystals(start), to_crystals(end)) == pytest.approx([-0.05, 0.0, 0.1])


def test_closest_contact_names_the_pair_in_units_of_the_covalent_radii():
    contact = closest_contact(to_crystals(copper_gold()))
    assert contact.distance == pytest.approx(3.7493 / np.sqrt(2))
    assert contact.ratio == pytest.approx(contact.distance / (1.32 + 1.36))  # Cu and Au, Cordero et al. 2008
    assert set(contact.atoms.split(' - ')) in [{'Au 1', f'Cu {site}'} for site in (0, 2, 3)]


def test_closest_contact_sees_an_atom_and_its_own_image():
    contact = closest_contact(to_crystals(Atoms('Cu', cell=[1.5, 6, 6], pbc=True)))
    assert (contact.distance, contact.atoms) == (pytest.approx(1.5), 'Cu 0 - Cu 0')


def test_no_contact_where_all_atoms_are_far_apart():
    assert closest_contact(to_crystals(Atoms('Cu', cell=[9, 9, 9], pbc=True))) is None


def test_the_same_crystal_is_recognised_in_another_cell_and_another_one_is_not():
    crystal = copper_gold()
    swapped = copper_gold()
    swapped.symbols = ['Cu', 'Cu', 'Au', 'Au']
    assert is_same_crystal(to_crystals(crystal), to_crystals(crystal.repeat((2, 1, 1))))
    assert not is_same_crystal(to_crystals(crystal), to_crystals(swapped))
