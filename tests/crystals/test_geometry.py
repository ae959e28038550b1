import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from scipy.spatial.transform import Rotation

from aiida_e3relax.crystals.geometry import (
    closest_contact,
    displacements,
    find_overlap,
    is_same_crystal,
    principal_strains,
)
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


def other_cell(atoms, rows):
    """The same crystal in the lattice vectors `rows`, integers of determinant 1."""
    changed = atoms.copy()
    changed.set_cell(np.array(rows) @ atoms.cell.array)
    return changed


SKEWED = [[1, 0, 0], [100, 1, 0], [0, -60, 1]]


def test_nothing_depends_on_how_the_cell_is_chosen():
    start, end = copper_gold(), rattled_copper_gold()
    again = [to_crystals(other_cell(atoms, SKEWED)) for atoms in (start, end)]
    given = displacements(to_crystals(start), to_crystals(end))
    assert displacements(*again) == pytest.approx(given, abs=1e-9)
    assert closest_contact(again[1]).distance == pytest.approx(closest_contact(to_crystals(end)).distance)
    assert is_same_crystal(to_crystals(start), again[0])


@pytest.mark.timeout(60)
def test_crystals_in_needles_are_compared_site_by_site():
    needle = Atoms('SiC', positions=[(0, 0, 0), (1.5, 1.5, 1.5)], cell=[3, 3, 2000], pbc=True)
    moved = needle.copy()
    moved.positions[1] += [0.1, 0.0, 0.2]
    far = needle.copy()
    far.positions[1, 2] += 900
    assert is_same_crystal(to_crystals(needle), to_crystals(moved))
    assert not is_same_crystal(to_crystals(needle), to_crystals(far))


@pytest.mark.parametrize('cell', [[1e-4, 400, 1000], [0.012, 10, 10], [1e300, 1e300, 1e300], [3, 3, np.nan]])
@pytest.mark.timeout(60)
def test_what_is_no_crystal_is_the_same_as_no_other(cell):
    odd = to_crystals(Atoms('Cu', cell=cell, pbc=True))
    assert not is_same_crystal(odd, odd)


def test_an_overlap_is_told_with_its_sites():
    arsenic = Atoms('As2', positions=[(0, 0, 0), (2.6, 0, 0.1)], cell=[3.2, 3.2, 4.2], pbc=True)
    assert find_overlap(to_crystals(arsenic)).startswith('the sites As 0 and As 1 are 0.608 A apart, expected')
    hydrogen = Atoms('H2', positions=[(0, 0, 0), (0.74, 0, 0)], cell=[3, 3, 4], pbc=True)
    assert find_overlap(to_crystals(hydrogen)) is None
