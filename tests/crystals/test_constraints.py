"""Which sites a structure holds, from ASE's constraints and back."""

import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms, FixBondLengths, FixCartesian, FixedLine, FixedPlane, FixScaled

from aiida_e3relax.crystals.freedom.constraints import make_constraints, movable_coordinates

BOX = np.diag([3.0, 4.0, 5.0])
HEXAGONAL = np.array([[3.0, 0, 0], [-1.5, 2.6, 0], [0, 0, 10.0]])


def held(constraint, cell=BOX):
    return movable_coordinates(Atoms('Cu2', [[0, 0, 0], [1, 1, 2.5]], cell=cell, constraint=constraint))


@pytest.mark.parametrize(
    ('constraint', 'movable'),
    [
        (FixAtoms([1]), [True] * 3 + [False] * 3),
        (FixScaled([1], mask=[True, False, True]), [True] * 3 + [False, True, False]),
        (FixCartesian([0], mask=[True, False, False]), [False, True, True] + [True] * 3),
        (FixedPlane([0], [0, 0, 1]), [True, True, False] + [True] * 3),
        (FixedLine([0], [0, 0, 2]), [False, False, True] + [True] * 3),
        ([FixAtoms([0]), FixScaled([1], mask=[False, False, True])], [False] * 3 + [True, True, False]),
    ],
)
def test_constraints_hold_fractional_coordinates(constraint, movable):
    assert held(constraint).ravel().tolist() == movable


def test_directions_are_those_of_the_lattice():
    assert held(FixCartesian([0], mask=[False, False, True]), HEXAGONAL)[0].tolist() == [True, True, False]
    assert held(FixCartesian([0], mask=[True, True, False]), HEXAGONAL)[0].tolist() == [False, False, True]
    with pytest.raises(ValueError, match='none of the lattice vectors'):
        held(FixCartesian([0], mask=[True, False, False]), HEXAGONAL)


def test_other_constraints_are_refused_by_name():
    with pytest.raises(ValueError, match='found the constraint FixBondLengths'):
        held(FixBondLengths([[0, 1]]))
    assert movable_coordinates(Atoms('Cu')) is None


@pytest.mark.parametrize('cartesian', [False, True])
def test_constraints_that_are_made_hold_the_same(cartesian):
    movable = np.array([[True, True, False], [False, False, False]])
    assert (held(make_constraints(movable, HEXAGONAL, cartesian), HEXAGONAL) == movable).all()


def test_a_format_that_holds_x_y_and_z_cannot_hold_a_slanted_vector():
    with pytest.raises(ValueError, match='do not lie along x, y and z'):
        make_constraints(np.array([[True, False, True]]), np.array([[3.0, 1, 0], [1, 3, 0], [0, 0, 3]]), cartesian=True)
