"""The way between `StructureData` and flat arrays, and the faults that are found on it."""

import ase.build
import numpy as np
import pytest
from aiida import orm

from aiida_e3relax.data.structures import find_fault, moved_structure, structures_to_crystals


@pytest.mark.usefixtures('aiida_profile')
class TestConversion:
    def test_batch_keeps_order_and_labels(self, make_structure):
        crystals = structures_to_crystals({'second': make_structure('MgO'), 'first': make_structure('Cu')})
        assert crystals.labels.tolist() == ['second', 'first']
        assert crystals.n_atoms.tolist() == [2, 1]
        assert crystals.numbers.tolist() == [12, 8, 29]
        np.testing.assert_allclose(crystals.volumes, [4.212**3 / 4, 3.615**3 / 4])
        assert crystals.pbc.all()

    def test_sites_that_are_not_one_atom_get_no_element(self):
        structure = orm.StructureData(cell=np.eye(3).tolist())
        structure.append_atom(symbols=['Ga', 'In'], weights=[0.5, 0.5], position=(0, 0, 0), name='alloy')
        structure.append_atom(symbols='Cu', weights=[0.9], position=(0.5, 0, 0), name='vacancy')
        structure.append_atom(symbols='X', position=(0, 0.5, 0))
        assert structures_to_crystals({'odd': structure}).numbers.tolist() == [0, 0, 0]

    def test_moved_structure_keeps_everything_else(self):
        structure = orm.StructureData(cell=(4 * np.eye(3)).tolist(), pbc=(True, True, False))
        for name, position in (('Fe1', (0, 0, 0)), ('O', (2, 0, 0)), ('Fe2', (0, 2, 0))):
            structure.append_atom(symbols=name.rstrip('12'), name=name, position=position)
        structure.store()
        positions, cell = np.arange(9.0).reshape(3, 3), 5 * np.eye(3)
        moved = moved_structure(structure, positions, cell)
        assert not moved.is_stored
        assert moved.get_site_kindnames() == ['Fe1', 'O', 'Fe2']
        assert moved.pbc == (True, True, False)
        np.testing.assert_array_equal([site.position for site in moved.sites], positions)
        np.testing.assert_array_equal(moved.cell, cell)
        np.testing.assert_array_equal(structure.cell, 4 * np.eye(3))


@pytest.mark.usefixtures('aiida_profile')
class TestFaults:
    @pytest.mark.parametrize('name', ['Cu', 'MgO', 'GaAs'])
    def test_real_crystals_have_none(self, make_structure, name):
        assert find_fault(make_structure(name)) is None

    def test_no_sites(self):
        assert 'no sites' in find_fault(orm.StructureData(cell=np.eye(3).tolist()))

    def test_position_not_finite(self, make_structure):
        atoms = ase.build.bulk('MgO', 'rocksalt', a=4.212)
        atoms.positions[1, 2] = np.nan
        assert 'site 1 has the position' in find_fault(make_structure(atoms))

    def test_unknown_element(self):
        structure = orm.StructureData(cell=(4 * np.eye(3)).tolist())
        structure.append_atom(symbols='X', position=(0, 0, 0))
        assert 'kind `X`' in find_fault(structure)

    @pytest.mark.parametrize(
        ('cell', 'fault'),
        [
            ([[4, 0, 0], [8, 0, 0], [0, 0, 4]], 'is singular'),
            ([[4, 0, 0], [4, 1e-9, 0], [0, 0, 4]], 'is singular'),
            ([[0, 0, 0], [0, 4, 0], [0, 0, 4]], 'is singular'),
            ([[0, 4, 0], [4, 0, 0], [0, 0, 4]], 'is left-handed'),
            ([[np.inf, 0, 0], [0, 4, 0], [0, 0, 4]], 'must be finite'),
        ],
    )
    def test_cell(self, cell, fault):
        structure = orm.StructureData(cell=cell)
        structure.append_atom(symbols='Cu', position=(0, 0, 0))
        assert fault in find_fault(structure)
