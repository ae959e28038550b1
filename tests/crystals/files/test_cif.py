"""The crystal of a CIF is that of the file, whatever way it states its symmetry, or it is refused with the reason."""

import gemmi
import numpy as np
import pytest
import spglib
from ase.build import bulk
from ase.io import write
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st

from aiida_e3relax.crystals.files import CrystalFileError, iterate_crystals, read_crystals

SITES = ['label', 'type_symbol', 'fract_x', 'fract_y', 'fract_z']
CUBIC = (4.0, 4.0, 4.0, 90, 90, 90)
DIAMOND = (5.43, 5.43, 5.43, 90, 90, 90)
ARSENIC = (4.13, 4.13, 4.13, 54.1, 54.1, 54.1)
SETTINGS = list(gemmi.spacegroup_table())
CELLS = {
    'Triclinic': (5.1, 6.2, 7.3, 81, 95, 103),
    'Orthorhombic': (5.1, 6.2, 7.3, 90, 90, 90),
    'Tetragonal': (5.1, 5.1, 7.3, 90, 90, 90),
    'Hexagonal': (5.1, 5.1, 7.3, 90, 90, 120),
    'Trigonal': (5.1, 5.1, 7.3, 90, 90, 120),
    'Cubic': (6.2, 6.2, 6.2, 90, 90, 90),
}


def block(cell, *sites, columns=SITES, name='x', **values):
    """A data block; `values` are given without the first underscore and with `__` for a dash."""
    names = ['length_a', 'length_b', 'length_c', 'angle_alpha', 'angle_beta', 'angle_gamma']
    lines = [f'data_{name}', *(f'_cell_{n} {v}' for n, v in zip(names, cell, strict=True))]
    lines += [f"_{key.replace('__', '-')} '{value}'" for key, value in values.items() if isinstance(value, str)]
    for key, rows in values.items():
        if not isinstance(rows, str):
            lines += ['loop_', f'_{key}', *(f"'{row}'" for row in rows)]
    return '\n'.join([*lines, 'loop_', *(f'_atom_site_{c}' for c in columns), *sites]) + '\n'


@pytest.fixture
def cif(tmp_path):
    def make(*blocks):
        (tmp_path / 'x.cif').write_text('\n'.join(blocks), encoding='utf-8')
        return tmp_path / 'x.cif'

    return make


def refusal(path):
    with pytest.raises(CrystalFileError) as told:
        read_crystals(path)
    assert str(told.value).startswith(str(path))
    assert '\n' not in str(told.value)
    return str(told.value)


def shortest(atoms):
    distances = atoms.repeat(2).get_all_distances(mic=True)
    return distances[distances > 0].min()


@pytest.mark.parametrize(
    ('cell', 'group', 'number', 'site', 'formula', 'distance'),
    [
        (DIAMOND, 'F d -3 m :2', '227', 'Si1 Si .125 .125 .125', 'Si8', 2.351),
        (DIAMOND, 'F d -3 m Z', '227', 'Si1 Si .125 .125 .125', 'Si8', 2.351),
        (DIAMOND, 'Fd-3m:1', '227', 'Si1 Si 0 0 0', 'Si8', 2.351),
        (ARSENIC, 'R -3 m :R', '166', 'As1 As .227 .227 .227', 'As2', 2.509),
        (ARSENIC, 'R -3 m', '166', 'As1 As .227 .227 .227', 'As2', 2.509),
        ((3.76, 3.76, 10.55, 90, 90, 120), 'R -3 m H', '166', 'As1 As 0 0 .227', 'As6', 2.509),
        ((3.76, 3.76, 10.55, 90, 90, 120), 'R -3 m', '166', 'As1 As 0 0 .227', 'As6', 2.509),
    ],
)
def test_settings_without_operations(cif, cell, group, number, site, formula, distance):
    path = cif(block(cell, site, symmetry_space_group_name_H__M=group, symmetry_Int_Tables_number=number))
    (atoms,) = read_crystals(path)
    assert atoms.get_chemical_formula() == formula
    assert shortest(atoms) == pytest.approx(distance, abs=0.02)


def test_an_origin_that_is_not_stated_is_asked_for(cif):
    told = refusal(cif(block(DIAMOND, 'Si1 Si 0 0 0', symmetry_space_group_name_H__M='F d -3 m')))
    assert 'two choices of origin' in told
    assert ':1 or :2' in told


def monoclinic(group):
    unique = next(axis for axis in 'abc' if axis in (group.monoclinic_unique_axis() or 'b'))
    return (5.1, 6.2, 7.3, *(100 if axis == unique else 90 for axis in 'abc'))


@settings(max_examples=25, deadline=None)
@given(group=st.sampled_from(SETTINGS), seed=st.integers(0, 99))
def test_every_setting_gives_a_crystal_of_its_group(tmp_path_factory, group, seed):
    cell = ARSENIC if group.ext == 'R' else CELLS.get(group.crystal_system_str().capitalize()) or monoclinic(group)
    places = np.random.default_rng(seed).uniform(0, 1, (3, 3))
    sites = [
        f'{e}1 {e} ' + ' '.join(f'{x:.6f}' for x in place) for e, place in zip(('Si', 'O', 'Cu'), places, strict=True)
    ]
    listed = [op.triplet() for op in group.operations()]
    path = tmp_path_factory.mktemp('cif') / 'x.cif'
    path.write_text(block(cell, *sites, space_group_symop_operation_xyz=listed))
    try:
        (by_operations,) = read_crystals(path)
    except CrystalFileError as error:
        # Two random sites happened to be at one place, or one nearly, but not clearly, at a special position.
        assert 'A apart' in str(error) or 'which no group has' in str(error)  # noqa: PT017
        reject()
    assume(len(by_operations) == 3 * len(listed))  # none happened to be close to a special position
    path.write_text(block(cell, *sites, space_group_name_Hall=group.hall))
    (by_hall,) = read_crystals(path)
    path.write_text(block(cell, *sites, **{'space_group_name_H__M_alt': group.xhm()}))
    (by_name,) = read_crystals(path)
    for atoms in (by_operations, by_hall, by_name):
        found = spglib.get_spacegroup_type_from_symmetry(
            *(np.array(part) for part in _operations(atoms)), lattice=atoms.cell.array
        )
        assert found.number == group.number
    np.testing.assert_allclose(_sorted(by_name), _sorted(by_operations), atol=1e-6)
    np.testing.assert_allclose(_sorted(by_hall), _sorted(by_operations), atol=1e-6)


def _operations(atoms):
    found = spglib.get_symmetry((atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), symprec=1e-3)
    return found['rotations'], found['translations']


def _sorted(atoms):
    places = np.round(atoms.get_scaled_positions(), 6) % 1.0
    return places[np.lexsort(places.T)]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 6))
def test_what_ase_writes_comes_back(tmp_path_factory, seed, count):
    random = np.random.default_rng(seed)
    atoms = bulk('Cu', a=3.6, cubic=True).repeat((2, 2, 2))[:count]
    atoms.set_cell(np.diag(random.uniform(7, 9, 3)) + random.uniform(-2, 2, (3, 3)))
    atoms.numbers = random.integers(1, 100, count)
    atoms.rattle(0.1, seed=seed)
    path = tmp_path_factory.mktemp('cif') / 'x.cif'
    write(path, atoms, wrap=False)
    (found,) = read_crystals(path)
    np.testing.assert_array_equal(found.numbers, atoms.numbers)
    np.testing.assert_allclose(found.cell.cellpar(), atoms.cell.cellpar(), atol=1e-3)
    difference = found.get_scaled_positions() - atoms.get_scaled_positions()
    np.testing.assert_allclose(difference - np.round(difference), 0, atol=1e-4)


@pytest.mark.parametrize(
    ('sites', 'told'),
    [
        (['La1 La 0 0 0 0.7', 'Sr1 Sr 0 0 0 0.3', 'O1 O .5 .5 0 1'], 'La1 (La 0.7), Sr1 (Sr 0.3)'),
        (['Ti1 Ti 0 0 0 0.5(1)', 'O1 O .5 .5 .5 1'], 'Ti1 (Ti 0.5)'),
        (['Ti1 Ti 0 0 0 1', 'O1 O .5 .5 .5 2'], 'O1 (O 2)'),
        (['Ti1 Ti 0 0 0 1', 'O1 O .5 .5 .5 ?'], 'O1: expected its occupancy, found `?`: write 1 where'),
    ],
)
def test_partial_occupancies_are_refused_with_sites_and_advice(cif, sites, told):
    text = refusal(cif(block(CUBIC, *sites, columns=[*SITES, 'occupancy'])))
    assert told in text
    assert 'found ' in text


def test_advice_for_disorder(cif):
    text = refusal(cif(block(CUBIC, 'Cu1 Cu 0 0 0 .5', 'Au1 Au 0 0 0 .5', columns=[*SITES, 'occupancy'])))
    assert 'OrderDisorderedStructureTransformation' in text
    assert 'icet' in text


def test_whole_occupancies_are_no_hindrance(cif):
    sites = ['Mg1 Mg2+ 0 0 0 1.0(2)', 'O1 O2- .5 .5 .5 .']
    path = cif(block(CUBIC, *sites, columns=[*SITES, 'occupancy']))
    (entry,) = iterate_crystals(path)
    assert entry.atoms.get_chemical_formula() == 'MgO'
    assert entry.notes == ('oxidation states of the file are not used',)


@pytest.mark.parametrize(
    ('text', 'told'),
    [
        (block(CUBIC, 'A1 A 0 0 0'), 'A1: expected an element'),
        (block(CUBIC, 'X1 X 0 0 0'), "X1: expected an element's symbol, found 'X'"),
        (block(CUBIC, 'OH1 OH 0 0 0'), "found 'Oh'"),
        (block(CUBIC, 'H1 H ? ? ?', 'O1 O 0 0 0'), "H1, coordinates: expected a number, found '?'"),
        (block(CUBIC, 'Cu1 Cu 0 0 0', 'Au1 Au 0 0 1'), 'Cu1 and Au1 are 0 A apart'),
        (block(CUBIC, 'Cu1 Cu 0 0 0', 'Cu2 Cu .01 0 0'), 'Cu1 and Cu2 are 0.04 A apart'),
        (block(CUBIC, 'O1 O 0 0 0 2', columns=[*SITES, 'attached_hydrogens']), '2 hydrogen atoms without coordinates'),
        (block(CUBIC, 'O1 O 0 0 0 A', columns=[*SITES, 'disorder_group']), 'alternative ones'),
        (block(CUBIC, 'CA1 0 0 0', columns=['label', *SITES[2:]]), 'CA1: expected a label'),
        (block((4, 4, 4, 90, 90, 0), 'O1 O 0 0 0'), 'expected the parameters of a cell'),
        (block((4, 4, 4, 30, 30, 100), 'O1 O 0 0 0'), 'expected the parameters of a cell'),
        (block((4, '?', 4, 90, 90, 90), 'O1 O 0 0 0'), '_cell_length_b is missing'),
        (block(CUBIC, 'O1 O 0 0 0', cell_volume='640'), '_cell_volume is 640'),
        (block((4, 4, 5, 90, 90, 90), 'O1 O 0 0 0', symmetry_space_group_name_H__M='F m -3 m'), 'do not belong to the'),
        (block(CUBIC, 'O1 O 0 0 0', symmetry_space_group_name_H__M='R -3 m :H'), 'do not belong to the cell'),
        (block(CUBIC, 'O1 O 0 0 0', symmetry_space_group_name_H__M='nonsense'), "space group 'nonsense' is not known"),
        (
            block(CUBIC, 'O1 O 0 0 0', symmetry_space_group_name_H__M='F m -3 m', symmetry_Int_Tables_number='221'),
            'the space group F m -3 m are of the group 225, but the file names 221',
        ),
        (
            block(CUBIC, 'O1 O 0 0 0', symmetry_Int_Tables_number='225', symmetry_equiv_pos_as_xyz=['x,y,z']),
            'the listed operations are of the group 1, but the file names 225',
        ),
        (
            block(CUBIC, 'O1 O 0 .1 .2', symmetry_equiv_pos_as_xyz=['x,y,z', 'y,z,x']),
            'the 2 listed symmetry operations are no group',
        ),
        (block(CUBIC, 'O1 O 0 0 0', symmetry_equiv_pos_as_xyz=['x,y,z', 'x,y']), 'a symmetry operation is not such as'),
        (block(CUBIC, 'O1 O 0 0 0', symmetry_equiv_pos_as_xyz=['x,y,z', '2x,y,z']), 'a symmetry operation is'),
        (block(CUBIC, 'Cu1 Cu 0 0 0', chemical_formula_sum='Cu Au'), 'give Cu1 in the cell, but the file states'),
        (
            block(CUBIC, 'Cu1 Cu 0 0 0', chemical_formula_sum='Cu', cell_formula_units_Z='4'),
            "give Cu1 in the cell, but the file states 4 units of 'Cu'",
        ),
        ('data_x\n_cell_length_a 4 4\n', 'not in the syntax of CIF: 2:'),
        ('data_x\n_cell_length_a 4\n', 'holds no structure'),
        ('hello\n', 'not in the syntax of CIF'),
    ],
)
def test_what_is_no_crystal_of_whole_atoms_is_refused(cif, text, told):
    assert told in refusal(cif(text))


@pytest.mark.parametrize(
    'item',
    [
        {'cell_modulation_dimension': '1'},
        {'space_group_ssg_name': 'Pmmn(0,b,0)s00'},
        {'atom_site_displace_Fourier_atom_site_label': ['Cu1']},
        {'atom_site_Fourier_wave_vector_seq_id': ['1']},
    ],
)
def test_a_modulated_crystal_is_not_its_average(cif, item):
    assert 'found a modulated one' in refusal(cif(block(CUBIC, 'Cu1 Cu 0 0 0', **item)))


def test_a_crystal_that_says_that_it_is_not_modulated(cif):
    (atoms,) = read_crystals(cif(block(CUBIC, 'Cu1 Cu 0 0 0', cell_modulation_dimension='0')))
    assert len(atoms) == 1


def test_the_formula_of_the_file_agrees(cif):
    for formula, units in (('Cu', '4'), ('Cu4', '4'), ('Cu4', '?')):
        values = {'chemical_formula_sum': formula, 'cell_formula_units_Z': units}
        path = cif(block(CUBIC, 'Cu1 Cu 0 0 0', symmetry_space_group_name_H__M='F m -3 m', **values))
        assert read_crystals(path)[0].get_chemical_formula() == 'Cu4'


def test_every_block_is_a_crystal_and_those_without_sites_are_none(cif):
    title = 'data_global\n_journal_year 2001\n'
    path = cif(title, block(CUBIC, 'Cu1 Cu 0 0 0', name='one'), block(CUBIC, 'A1 A 0 0 0', name='two'))
    good, bad = iterate_crystals(path)
    assert (good.name, good.atoms.get_chemical_formula()) == ('one', 'Cu')
    assert (bad.name, bad.atoms) == ('two', None)
    assert 'two: A1: expected an element' in refusal(path)


def test_deuterium_is_hydrogen_and_said_to_be(cif):
    (entry,) = iterate_crystals(cif(block(CUBIC, 'Li1 Li 0 0 0', 'D1 D .5 .5 .5', chemical_formula_sum='Li D')))
    assert entry.atoms.get_chemical_formula() == 'HLi'
    assert entry.notes == ('D read as H',)


def test_rounded_coordinates_on_special_positions_are_one_atom(cif):
    cell = (2.51, 2.51, 4.07, 90, 90, 120)
    path = cif(block(cell, 'Co1 Co .333 .667 .25', symmetry_space_group_name_H__M='P 63/m m c'))
    (atoms,) = read_crystals(path)
    assert len(atoms) == 2
    np.testing.assert_allclose(atoms.get_scaled_positions()[0], [1 / 3, 2 / 3, 1 / 4], atol=1e-9)


def test_a_magnetic_cif_gives_its_atoms_and_tells_of_the_moments(tmp_path):
    moments = 'loop_\n_atom_site_moment.label\n_atom_site_moment.crystalaxis_x\nFe1 2.0\n'
    listed = {'space_group_symop_magn_operation.xyz': ['x,y,z,+1', '-x,-y,-z,+1']}
    listed['space_group_symop_magn_centering.xyz'] = ['x,y,z,+1', 'x+1/2,y+1/2,z+1/2,-1']
    (tmp_path / 'x.mcif').write_text(block(CUBIC, 'Fe1 Fe 0 0 0', **listed) + moments)
    (entry,) = iterate_crystals(tmp_path / 'x.mcif')
    assert entry.atoms.get_chemical_formula() == 'Fe2'
    assert entry.notes == ('magnetic moments of the file are not used',)
