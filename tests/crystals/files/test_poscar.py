"""POSCAR files are read as VASP reads them, or refused with the line."""

import gzip

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import write
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_e3relax.crystals.files import CrystalFileError, iterate_crystals, read_crystals

GOOD = 'CuZn\n1.0\n3 0 0\n0 3 0\n0 0 3\nCu Zn\n1 1\nDirect\n0 0 0\n.5 .5 .5\n'
WITHOUT_ELEMENTS = 'In P template\n1.0\n3 0 0\n0 3 0\n0 0 3\n1 1\nDirect\n0 0 0\n.5 .5 .5\n'
POTCAR = ' TITEL  = PAW_PBE Ga_d 06Jul2010\n End of Dataset\n   TITEL  = PAW_PBE As 22Sep2009\n End of Dataset\n'


@pytest.fixture
def poscar(tmp_path):
    def make(text, name='POSCAR'):
        (tmp_path / name).write_bytes(text.encode())
        return tmp_path / name

    return make


def read(path):
    (atoms,) = read_crystals(path)
    return atoms


def refusal(path):
    with pytest.raises(CrystalFileError) as told:
        read_crystals(path)
    assert '\n' not in str(told.value)
    return str(told.value)


def edited(**lines):
    """GOOD with other lines, by number."""
    rows = GOOD.split('\n')
    for number, line in lines.items():
        rows[int(number[1:]) - 1] = line
    return '\n'.join(rows)


@pytest.mark.parametrize('name', ['POSCAR', 'CONTCAR', 'POSCAR_2', 'x.vasp', 'x.poscar', 'a@0.vasp', 'POSCAR.mp-149'])
def test_names(poscar, name):
    assert read(poscar(GOOD, name)).get_chemical_formula() == 'CuZn'


def test_compressed(tmp_path):
    (tmp_path / 'POSCAR.gz').write_bytes(gzip.compress(GOOD.encode()))
    assert read(tmp_path / 'POSCAR.gz').get_chemical_formula() == 'CuZn'


@pytest.mark.parametrize(
    ('text', 'volume'),
    [
        (edited(l2='2.0'), 216),
        (edited(l2='-54.0'), 54),
        (edited(l2='1.0 2.0 3.0'), 162),
        (edited(l2='1.0d0 ! a comment'), 27),
        (edited(l3='0 3 0', l4='3 0 0', l2='-54'), 54),
        (GOOD.replace('\n', '\r\n'), 27),
        (GOOD.replace('\n', '\r'), 27),
        (edited(l1='\u2028 \x0b \x85 comment'), 27),
        (GOOD + '\n0.01 0 0\n0 0 0\n', 27),
    ],
)
def test_scales_line_ends_and_velocities(poscar, text, volume):
    atoms = read(poscar(text))
    assert abs(atoms.cell.volume) == pytest.approx(volume)
    np.testing.assert_allclose(atoms.get_scaled_positions(), [[0, 0, 0], [0.5, 0.5, 0.5]])


def test_cartesian_coordinates_are_scaled(poscar):
    atoms = read(poscar(edited(l2='2.0 1.0 1.0', l8='Cartesian', l10='1.5 1.5 1.5')))
    np.testing.assert_allclose(atoms.positions[1], [3, 1.5, 1.5])


def test_selective_dynamics_are_constraints(poscar):
    atoms = read(poscar(edited(l8='Selective\nDirect', l9='0 0 0 F F F', l10='.5 .5 .5 .TRUE. F t')))
    whole, scaled = sorted(atoms.constraints, key=lambda constraint: constraint.index[0])
    assert whole.index.tolist() == [0]
    assert (scaled.index.tolist(), scaled.mask.tolist()) == ([1], [False, True, False])


@pytest.mark.parametrize('line', ['Ga_d As', 'Ga_d/6a2f546d As/0123', 'Ga.5 As_GW ! comment'])
def test_names_of_potentials_are_elements(poscar, line):
    assert read(poscar(edited(l6=line))).get_chemical_formula() == 'AsGa'


def test_deuterium_and_tritium_are_hydrogen_and_said_to_be(poscar):
    (entry,) = iterate_crystals(poscar(edited(l6='D T')))
    assert entry.atoms.get_chemical_formula() == 'H2'
    assert entry.notes == ('D and T read as H',)


def test_elements_of_vasp_4_are_those_of_potcar(poscar):
    poscar(POTCAR, 'POTCAR')
    (entry,) = iterate_crystals(poscar(WITHOUT_ELEMENTS))
    assert entry.atoms.get_chemical_symbols() == ['Ga', 'As']
    assert entry.notes == ('elements Ga As from POTCAR',)


@pytest.mark.parametrize('comment', ['In P template', 'C run 12', 'Se and Te swapped', 'old run', 'Ga As'])
def test_elements_are_never_guessed_from_the_comment(poscar, comment):
    told = refusal(poscar(WITHOUT_ELEMENTS.replace('In P template', comment)))
    assert 'no line of elements' in told
    assert 'POTCAR' in told


def test_a_potcar_of_other_elements_is_refused(poscar):
    poscar(POTCAR + POTCAR, 'POTCAR')
    assert 'expected 2 elements in POTCAR, found 4 (Ga As Ga As)' in refusal(poscar(WITHOUT_ELEMENTS))


@pytest.mark.parametrize(
    ('text', 'told'),
    [
        ('', 'the file is empty'),
        ('CuZn\n', 'line 2: expected the scale'),
        (edited(l2='0'), 'line 2: expected the scale'),
        (edited(l2='1.0 1.0'), 'line 2: expected the scale'),
        (edited(l2='nan'), 'line 2: expected the scale'),
        (edited(l2='1_0'), 'line 2: expected the scale'),
        (edited(l2='1 -1 1'), 'line 2: expected the scale'),
        (edited(l3='3 0'), 'line 3: expected three numbers, lattice vector 1'),
        (edited(l3='3 inf 0'), 'line 3: expected three numbers'),
        (edited(l5='0 3 0'), 'lattice vectors that span a volume'),
        (edited(l2='-27', l5='0 3 0'), 'lattice vectors that span a volume'),
        (edited(l3='1e200 0 0', l4='0 1e200 0'), 'lattice vectors that span a volume'),
        (edited(l6='Cu X'), "line 6: expected an element's symbol, found 'X'"),
        (edited(l6='Cu <b>'), "line 6: expected an element's symbol, found '<b>'"),
        (edited(l6='Cu \x1b[31m'), r'found '),
        (edited(l7='1'), 'line 7: expected 2 numbers of atoms'),
        (edited(l7='1 1.0'), 'line 7: expected the number of atoms'),
        (edited(l7='1 -1'), 'line 7: expected the number of atoms'),
        (edited(l7='0 0'), 'line 7: expected from 1 to 1,000,000 atoms'),
        (edited(l7='1 999999999'), 'line 7: expected from 1 to 1,000,000 atoms'),
        (edited(l7='1 99999'), 'the numbers of atoms are 100000 in all, but only 3 lines follow'),
        (edited(l7='1 2'), 'line 11: expected three numbers, the coordinates of atom 3 of 3'),
        (edited(l6='Cu', l7='1'), 'the numbers of atoms are 1 in all, but line 10 holds coordinates of one more'),
        (edited(l8='Quatsch'), 'line 8: expected Selective dynamics, Direct or Cartesian'),
        (edited(l9='0 0'), 'line 9: expected three numbers, the coordinates of atom 1 of 2'),
        (edited(l9='0 nan 0'), 'line 9: expected three numbers'),
        (edited(l9='0 1e30 0'), 'expected positions and cell within'),
        (edited(l8='Selective\nDirect'), 'line 10: expected three of T and F'),
        (edited(l8='Selective\nDirect', l9='0 0 0 T T X'), 'line 10: expected three of T and F'),
    ],
)
def test_what_vasp_would_not_read_is_refused_with_the_line(poscar, text, told):
    assert told in refusal(poscar(text))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 6), direct=st.booleans())
def test_what_ase_writes_comes_back(tmp_path_factory, seed, count, direct):
    random = np.random.default_rng(seed)
    atoms = Atoms(
        numbers=np.sort(random.integers(1, 100, count)),
        positions=random.uniform(-20, 20, (count, 3)),
        cell=np.diag(random.uniform(7, 9, 3)) + random.uniform(-2, 2, (3, 3)),
        pbc=True,
    )
    path = tmp_path_factory.mktemp('poscar') / 'POSCAR'
    write(path, atoms, format='vasp', direct=direct)
    found = read(path)
    np.testing.assert_array_equal(found.numbers, atoms.numbers)
    np.testing.assert_allclose(found.cell.array, atoms.cell.array, atol=1e-12)
    np.testing.assert_allclose(found.positions, atoms.positions, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_no_change_of_bytes_ends_in_another_error(tmp_path_factory, data):
    content = bytearray((GOOD + 'comment\n').encode())
    for place, byte in data.draw(
        st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=6)
    ):
        content[place] = byte
    path = tmp_path_factory.mktemp('poscar') / 'POSCAR'
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        (atoms,) = read_crystals(path)
    except CrystalFileError:
        return
    assert np.isfinite(atoms.positions).all()


def test_a_crystal_of_ase_in_two_notations_is_one(poscar, tmp_path):
    write(tmp_path / 'POSCAR', bulk('NaCl', 'rocksalt', a=5.6), format='vasp')
    write(tmp_path / 'x.cif', bulk('NaCl', 'rocksalt', a=5.6))
    distances = [np.sort(read(tmp_path / name).get_all_distances(mic=True).ravel()) for name in ('POSCAR', 'x.cif')]
    np.testing.assert_allclose(*distances, atol=1e-6)
