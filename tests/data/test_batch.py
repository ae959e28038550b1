"""Many structures in one node: what goes in comes out, exactly and one by one."""

import ase.build
import numpy as np
import pytest
from aiida import orm
from aiida.common.exceptions import ValidationError

from aiida_e3relax.crystals.structures import Crystals, make_crystals
from aiida_e3relax.data.batch import StructureBatchData
from aiida_e3relax.data.site_kinds import SiteKinds
from aiida_e3relax.data.structures import structures_to_crystals

pytestmark = pytest.mark.usefixtures('aiida_profile')


def irrational(count: int) -> Crystals:
    """Crystals whose numbers need all digits of a float64."""
    rng = np.random.default_rng(1)
    sizes = rng.integers(1, 6, count)
    return make_crystals(
        [rng.integers(1, 90, size) for size in sizes],
        [rng.normal(size=(size, 3)) for size in sizes],
        [4 * np.eye(3) + rng.normal(size=(3, 3)) for _ in sizes],
        [f'mp-{index}: δ phase' for index in range(count)],
        rng.integers(0, 2, (count, 3)),
    )


def hematite_like() -> orm.StructureData:
    structure = orm.StructureData(cell=(4 * np.eye(3)).tolist(), pbc=(True, True, False))
    for name, position, mass in (('Fe1', (0, 0, 0), 55.8), ('O', (2, 0, 0), 16.0), ('Fe2', (0, 2, 0), 57.0)):
        structure.append_atom(symbols=name.rstrip('12'), name=name, position=position, mass=mass)
    return structure


def assert_equal(found: Crystals, expected: Crystals) -> None:
    for name in ('n_atoms', 'numbers', 'positions', 'cell', 'pbc', 'labels'):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), strict=True)


def test_every_bit_survives_storing_and_loading():
    crystals = irrational(20)
    stored = StructureBatchData(crystals).store()
    loaded = orm.load_node(stored.pk)
    assert_equal(loaded.crystals, crystals)
    assert len(loaded) == 20
    assert loaded.labels == crystals.labels.tolist()
    assert 'mp-7: δ phase' in loaded
    assert 'mp-20: δ phase' not in loaded


def test_arrays_in_another_order_of_memory():
    crystals = irrational(5)
    turned = crystals.replace(np.asfortranarray(crystals.positions), np.asfortranarray(crystals.cell))
    batch = StructureBatchData(turned)
    positions = [site.position for site in batch.get_structure('mp-3: δ phase').sites]
    np.testing.assert_array_equal(positions, crystals.select([3]).positions)


@pytest.mark.parametrize('is_stored', [False, True])
def test_each_structure_comes_out_alone(is_stored):
    crystals = irrational(20)
    batch = StructureBatchData(crystals)
    batch = orm.load_node(batch.store().pk) if is_stored else batch
    for index, label in enumerate(crystals.labels.tolist()):
        structure = batch.get_structure(label)
        assert structure.label == label
        found, expected = structures_to_crystals({label: structure}), crystals.select([index])
        np.testing.assert_array_equal(found.numbers, expected.numbers)
        np.testing.assert_array_equal(found.positions, expected.positions)
        np.testing.assert_array_equal(found.cell, expected.cell)
        np.testing.assert_array_equal(found.pbc, expected.pbc)


def test_one_structure_is_read_and_not_all():
    stored = StructureBatchData(irrational(1000)).store()
    loaded = orm.load_node(stored.pk)
    loaded.get_structure('mp-999: δ phase')
    assert set(loaded._cached_arrays) == {'n_atoms'}


def test_kinds_masses_and_periodic_directions_are_kept():
    structures = {'fe': hematite_like(), 'cu': orm.StructureData(ase=ase.build.bulk('Cu', 'fcc', a=3.615))}
    batch = orm.load_node(StructureBatchData(structures).store().pk)
    for label, structure in structures.items():
        taken = batch.get_structure(label)
        assert taken.get_site_kindnames() == structure.get_site_kindnames()
        assert [kind.get_raw() for kind in taken.kinds] == [kind.get_raw() for kind in structure.kinds]
        assert taken.pbc == structure.pbc
        assert taken.cell == structure.cell


def test_one_name_may_mean_different_kinds_in_different_structures():
    heavy = orm.StructureData(cell=(4 * np.eye(3)).tolist())
    heavy.append_atom(symbols='Fe', name='Fe2', position=(0, 0, 0), mass=60.0)
    batch = StructureBatchData({'fe': hematite_like(), 'heavy': heavy})
    assert batch.get_structure('heavy').get_kind('Fe2').mass == 60.0
    assert batch.get_structure('fe').get_kind('Fe2').mass == 57.0


def test_sites_that_are_not_one_atom_have_no_element():
    alloy = orm.StructureData(cell=(4 * np.eye(3)).tolist())
    alloy.append_atom(symbols=['Ga', 'In'], weights=[0.5, 0.5], position=(0, 0, 0), name='mix')
    batch = StructureBatchData({'alloy': alloy})
    assert batch.crystals.numbers.tolist() == [0]
    assert batch.get_structure('alloy').get_kind('mix').symbols == ('Ga', 'In')


def test_moved_keeps_kinds_in_the_order_asked_for():
    batch = StructureBatchData({'cu': orm.StructureData(ase=ase.build.bulk('Cu')), 'fe': hematite_like()})
    crystals = batch.crystals.select([1])
    moved = batch.moved(crystals.replace(crystals.positions + 0.1, 1.1 * crystals.cell))
    assert moved.labels == ['fe']
    structure = moved.get_structure('fe')
    assert structure.get_site_kindnames() == ['Fe1', 'O', 'Fe2']
    assert structure.get_kind('Fe2').mass == 57.0
    np.testing.assert_array_equal(structure.cell, 4.4 * np.eye(3))
    assert moved.base.attributes.get('kinds') == batch.base.attributes.get('kinds')[1:]


def test_same_content_has_the_same_hash():
    one, again = StructureBatchData(irrational(4)).store(), StructureBatchData(irrational(4)).store()
    other = StructureBatchData(irrational(4).replace(irrational(4).positions + 1e-15, irrational(4).cell)).store()
    assert one.base.caching.get_hash() == again.base.caching.get_hash() != other.base.caching.get_hash()


class TestRefused:
    def test_no_structure(self):
        with pytest.raises(ValueError, match='holds at least one structure'):
            StructureBatchData({})

    @pytest.mark.parametrize('label', ['', 'two\nlines', 'bell\a'])
    def test_label(self, label):
        with pytest.raises(ValueError, match='expected printable text on one line'):
            StructureBatchData({label: hematite_like()})

    def test_label_twice(self):
        crystals = Crystals.concatenate([irrational(3), irrational(2)])
        with pytest.raises(ValueError, match='expected each once, found `mp-0: δ phase`, `mp-1: δ phase` more than'):
            StructureBatchData(crystals)

    def test_kinds_of_other_elements(self):
        crystals = irrational(3)
        with pytest.raises(ValueError, match='expected a kind of the element of each site'):
            StructureBatchData(crystals, SiteKinds.of_elements(crystals.numbers[::-1] + 1))

    def test_label_that_is_not_there(self):
        with pytest.raises(KeyError, match='holds no structure `mp-9`'):
            StructureBatchData(irrational(3)).get_structure('mp-9')

    def test_arrays_that_do_not_fit_together(self):
        batch = StructureBatchData(irrational(3))
        batch.set_array('positions', np.zeros((1, 3)))
        with pytest.raises(ValidationError, match='`positions` has shape'):
            batch.store()
