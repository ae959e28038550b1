"""POSCAR: formats that are read, round trips, and errors."""

import contextlib

import numpy as np
import pytest
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.io.vasp import Poscar as PymatgenPoscar

from aiida_e3relax.standin.errors import StandInError
from aiida_e3relax.standin.poscar import Poscar

SELECTIVE = """rutile-like cell
 2.0
 2.0 0.0 0.0
 0.0 2.5 0.0
 0.1 0.0 3.0
 Ti O Ti
 1 2 1
Selective dynamics
Cartesian
 0.0 0.0 0.0 T T T
 1.0 1.0 0.5 F F F
 0.5 0.5 1.5 T F T comment
 1.5 2.0 2.5 .TRUE. .FALSE. T
"""


def test_selective_dynamics_cartesian_and_scale():
    poscar = Poscar.parse(SELECTIVE)
    assert poscar.symbols == ['Ti', 'O', 'O', 'Ti']
    assert poscar.movable.tolist() == [[True] * 3, [False] * 3, [True, False, True], [True, False, True]]
    np.testing.assert_allclose(poscar.geometry.cell[1], [0, 5, 0])
    np.testing.assert_allclose(poscar.geometry.positions[3], [3, 4, 5])


def test_agrees_with_pymatgen_and_survives_a_round_trip():
    poscar = Poscar.parse(SELECTIVE)
    reference = PymatgenPoscar.from_str(SELECTIVE)
    np.testing.assert_allclose(poscar.geometry.positions, reference.structure.cart_coords, atol=1e-12)
    again = Poscar.parse(poscar.format(poscar.geometry))
    np.testing.assert_allclose(again.geometry.scaled, poscar.geometry.scaled, atol=1e-15)
    assert again.movable.tolist() == poscar.movable.tolist()
    assert again.species == ('Ti', 'O', 'Ti')


def test_negative_scale_is_a_volume():
    poscar = Poscar.parse(SELECTIVE.replace('\n 2.0\n', '\n -50\n', 1))
    assert poscar.geometry.volume == pytest.approx(50)


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        (' 0.0 2.5 0.0', ' 0.0 -2.5 0.0', 'triple product of the lattice vectors must be positive'),
        (' 0.0 2.5 0.0', ' 4.0 0.0 0.0', 'triple product'),
        (' 0.0 2.5 0.0', ' 0.0 nan 0.0', 'line 4: expected lattice vector 2'),
        (' Ti O Ti\n', '', 'expected element symbols'),
        ('Ti O Ti', 'Ti Oxy Ti', 'expected element symbols'),
        (' 1 2 1', ' 1 2', 'line 7: expected atoms per species'),
        (' 1.5 2.0 2.5 .TRUE. .FALSE. T\n', '', 'expected coordinates of atom 4'),
        ('F F F', 'F F', 'expected three of T and F'),
    ],
)
def test_errors_name_the_line(old, new, message):
    with pytest.raises(StandInError, match=message):
        Poscar.parse(SELECTIVE.replace(old, new, 1))


def test_coordinates_keep_all_digits():
    cell = bulk('MgO', 'rocksalt', a=4.212).cell.array
    text = 'MgO\n1.0\n' + '\n'.join(' '.join(f'{x:.16f}' for x in row) for row in cell)
    poscar = Poscar.parse(text + '\nMg O\n1 1\nDirect\n0 0 0\n0.4999999999999 -0.5 1.25\n')
    np.testing.assert_array_equal(poscar.geometry.scaled[1], [0.4999999999999, -0.5, 1.25])


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        (' 1 2 1', ' 1 2.5 1', r'line 7: expected atoms per species \(3 positive integers\)'),
        (' 1 2 1', ' 1 2 1 1', 'line 7: expected atoms per species'),
        (' 1 2 1', ' 1 -2 1', 'line 7: expected atoms per species'),
        (' 1 2 1', ' 1 0 1', 'line 7: expected atoms per species'),
        (' 1 2 1', ' 1 1e300 1', 'line 7: expected atoms per species'),
        (' 1 2 1', ' 1 1000000000 1', 'announces 1000000002 atoms, found 7 lines'),
        ('Cartesian', 'Qqq', "line 9: expected Direct or Cartesian, found 'Qqq'"),
        ('Cartesian', '', 'line 9: expected Direct or Cartesian'),
        (' 1.0 1.0 0.5 F', ' 1_0 1.0 0.5 F', 'line 11: expected coordinates of atom 2'),
        (' 1.0 1.0 0.5 F', ' 1e30 1.0 0.5 F', 'line 11: expected coordinates of atom 2'),
        (' 1.0 1.0 0.5 F', ' 1e8 1.0 0.5 F', 'expected sites within 1e[+]06 lattice vectors'),
        ('\n 2.0\n', '\n 0\n', 'line 2: expected a scale'),
        ('\n 2.0\n', '\n 1 1 1\n', 'line 2: expected one scale'),
        ('\n 2.0\n', '\n 1000\n', 'expected lattice vectors of 1000 A at most'),
        ('\n 2.0\n', '\n 0.1\n', r'expected 0.5 A\^3 an atom at least'),
        (' 0.1 0.0 3.0', ' 900 0.0 0.0001', 'triple product|thin|atom at least|1000 A at most'),
        (' 2.0 0.0 0.0', ' 1e200 0.0 0.0', 'line 3: expected lattice vector 1'),
    ],
)
def test_what_is_no_crystal_is_refused_at_once(old, new, message):
    with pytest.raises(StandInError, match=message):
        Poscar.parse(SELECTIVE.replace(old, new, 1))


def test_fortran_exponents_and_odd_comments_are_read():
    text = SELECTIVE.replace('1.0 1.0 0.5', '1.0d0 1.0D+00 5d-1', 1).replace('rutile-like', 'a\x0b\u2028\x1b[31mb', 1)
    poscar = Poscar.parse(text)
    np.testing.assert_array_equal(poscar.geometry.scaled, Poscar.parse(SELECTIVE).geometry.scaled)
    assert poscar.comment.isprintable()


LINES = st.sampled_from(
    ['1', '-2', '1e300', '0 0 0', '1_0 0 0', 'nan nan nan', 'Direct', 'S', '', 'Cu Cu', '4 0 0', '٣']
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.integers(0, 12), LINES, min_size=1, max_size=3))
def test_a_file_with_other_lines_is_read_as_it_stands_or_refused(changes):
    lines = SELECTIVE.splitlines()
    for number, line in changes.items():
        lines[number] = line
    with contextlib.suppress(StandInError):
        poscar = Poscar.parse('\n'.join(lines))
        assert len(poscar.symbols) == len(poscar.geometry.scaled) == sum(poscar.counts)
        assert np.isfinite(poscar.geometry.positions).all()
