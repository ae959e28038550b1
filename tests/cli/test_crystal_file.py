import ase.build
import click
import pytest
from ase.constraints import FixAtoms, FixBondLength, FixScaled

from aiida_e3relax.cli.crystal_file import fixed_components


def test_constraints_are_told_by_component():
    slab = ase.build.fcc100('Cu', (1, 1, 4), vacuum=6.0)
    slab.set_constraint([FixAtoms([0, 1]), FixScaled(2, [True, True, False])])
    assert fixed_components(slab) == {'abc': [0, 1], 'ab': [2]}


def test_a_crystal_without_constraints_has_none():
    assert fixed_components(ase.build.bulk('Cu')) == {}


def test_constraints_that_vasp_does_not_know_are_refused():
    slab = ase.build.fcc100('Cu', (1, 1, 2), vacuum=6.0)
    slab.set_constraint(FixBondLength(0, 1))
    with pytest.raises(click.ClickException, match='FixBondLength'):
        fixed_components(slab)
