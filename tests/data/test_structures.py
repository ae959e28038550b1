"""The way between `StructureData` and flat arrays, and the faults that are found on it."""

import ase.build
import numpy as np
import pytest
from aiida import orm

from aiida_e3relax.data.structures import can_be_stored, find_faults, moved_structure, structures_to_crystals


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


def single_site(symbol: str = 'Cu', cell: object = ((4, 0, 0), (0, 4, 0), (0, 0, 4)), **options) -> orm.StructureData:
    structure = orm.StructureData(cell=cell, **options)
    structure.append_atom(symbols=symbol, position=(0, 0, 0))
    return structure


@pytest.mark.usefixtures('aiida_profile')
class TestFaults:
    def test_sound_ones_are_left_out(self, make_structure):
        structures = {name: make_structure(name) for name in ('Cu', 'MgO', 'GaAs')}
        structures['empty'] = orm.StructureData(cell=np.eye(3).tolist())
        assert list(find_faults(structures)) == ['empty']

    def test_left_handed_cell_is_sound(self):
        """The network is equivariant under reflections; only VASP asks for right-handed cells."""
        assert not find_faults({'mirror': single_site(cell=[[0, 4, 0], [4, 0, 0], [0, 0, 4]])})

    def test_position_not_finite(self, make_structure):
        atoms = ase.build.bulk('MgO', 'rocksalt', a=4.212)
        atoms.positions[1, 2] = np.nan
        structure = make_structure(atoms)
        assert 'NaN' in find_faults({'nan': structure})['nan']
        assert not can_be_stored(structure)

    def test_not_one_element(self):
        structure = orm.StructureData(cell=(4 * np.eye(3)).tolist())
        structure.append_atom(symbols=['Ga', 'In'], weights=[0.5, 0.5], position=(0, 0, 0), name='mix')
        faults = find_faults({'alloy': structure, 'unknown': single_site('X')})
        assert faults['alloy'].startswith('kind `mix` is {Ga0.50In0.50}')
        assert faults['unknown'].startswith('kind `X` is X')

    def test_molecule(self):
        assert 'periodic in no direction' in find_faults({'molecule': single_site(pbc=False)})['molecule']

    @pytest.mark.parametrize(
        ('cell', 'fault', 'storable'),
        [
            ([[4, 0, 0], [8, 0, 0], [0, 0, 4]], 'cell volume of 0', False),
            ([[4, 0, 0], [4, 1e-9, 0], [0, 0, 4]], 'cell volume of 1.6e-08', True),
            ([[np.inf, 0, 0], [0, 4, 0], [0, 0, 4]], 'infinite', False),
        ],
    )
    def test_cell(self, cell, fault, storable):
        structure = single_site(cell=cell)
        assert fault in find_faults({'odd': structure})['odd']
        assert can_be_stored(structure) is storable
