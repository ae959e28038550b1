import numpy as np
import pytest
from aiida import orm
from ase import Atoms

from aiida_e3relax.workflows.species import (
    count_species,
    loses_sites,
    name_species,
    restore_sites,
    translate_species,
)
from tests.workflows.crystals import copper_gold
from tests.workflows.magnetic import magnetite, manganese_nitride

pytestmark = pytest.mark.usefixtures('aiida_profile')

POTENTIALS = {'Fe': 'Fe_pv', 'O': 'O', 'Mn': 'Mn_pv', 'N': 'N'}
IRON_U = {'mapping': {'Fe': ['d', 3.8]}}


def test_kinds_that_differ_in_their_moment_alone_are_one_species():
    made = translate_species(magnetite(), POTENTIALS, IRON_U, {'Fe1': -4.0, 'Fe2': 4.0, 'default': 0.0})
    assert made.names == {'Fe1': 'Fe', 'Fe2': 'Fe', 'O': 'O'}
    assert made.potential_mapping == {'Fe': 'Fe_pv', 'O': 'O'}
    assert made.ldau_mapping['mapping'] == {'Fe': ['d', 3.8]}
    assert count_species(magnetite(), made.names) == [('Fe', 1), ('O', 2), ('Fe', 2), ('O', 3), ('Fe', 3), ('O', 3)]


def test_moments_follow_the_sites_and_a_kind_goes_before_its_element():
    made = translate_species(magnetite(), POTENTIALS, None, {'Fe': 4.0, 'Fe1': -4.0, 'default': 0.5})
    by_kind = {'Fe1': '-4.0', 'Fe2': '4.0', 'O': '0.5'}
    assert made.magmom.split() == [by_kind[site.kind_name] for site in magnetite().sites]
    assert sum(float(word) for word in made.magmom.split()) == pytest.approx(4 * 4 - 2 * 4 + 8 * 0.5)


def test_a_moment_may_have_three_components():
    made = translate_species(
        manganese_nitride(), POTENTIALS, None, {'Mn1': [0, 0, 3], 'Mn2': [0, 0, -3], 'N': [0, 0, 0]}
    )
    assert made.magmom == '0 0 3 0 0 0 0 0 -3 0 0 0'


def test_elements_without_moments_have_no_tag():
    assert (
        translate_species(orm.StructureData(ase=copper_gold()), {'Cu': 'Cu', 'Au': 'Au'}, None, {'Fe': 5.0}).magmom
        is None
    )


def test_kinds_with_another_hubbard_correction_are_species_of_their_own():
    made = translate_species(magnetite(), POTENTIALS, {'mapping': {'Fe': ['d', 3.8], 'Fe1': ['d', 4.5]}})
    assert made.names == {'Fe1': 'Fe_2', 'Fe2': 'Fe_1', 'O': 'O'}  # numbered as they come
    assert made.potential_mapping == {'Fe_1': 'Fe_pv', 'Fe_2': 'Fe_pv', 'O': 'O'}
    assert made.ldau_mapping['mapping'] == {'Fe_1': ['d', 3.8], 'Fe_2': ['d', 4.5]}


def test_kinds_with_another_potential_are_species_of_their_own():
    made = translate_species(manganese_nitride(), {**POTENTIALS, 'Mn2': 'Mn'})
    assert made.potential_mapping == {'Mn_1': 'Mn_pv', 'Mn_2': 'Mn', 'N': 'N'}


def test_f_electrons_are_told_where_the_name_of_the_element_is_hidden():
    ceria = orm.StructureData(cell=np.eye(3) * 6)
    ceria.append_atom(position=(0, 0, 0), symbols='Ce', name='Ce1')
    ceria.append_atom(position=(3, 3, 3), symbols='Ce', name='Ce2')
    made = translate_species(ceria, {'Ce': 'Ce'}, {'mapping': {'Ce1': ['f', 5.0], 'Ce2': ['f', 4.0]}})
    assert made.ldau_mapping['felec'] is True


def test_sites_go_and_come_back_in_their_order_with_all_they_have():
    structure = magnetite()
    structure.base.extras.set('source', 'ICSD 26410')
    names = translate_species(structure, POTENTIALS).names
    sent = name_species(structure, orm.Dict(names))
    assert [kind.name for kind in sent.kinds] == ['Fe', 'O']
    assert [site.position for site in sent.sites] == [site.position for site in structure.sites]
    relaxed = orm.StructureData(ase=Atoms(sent.get_ase(), cell=1.01 * np.array(sent.cell)))
    back = restore_sites(structure, raw=relaxed)['raw']
    assert [site.kind_name for site in back.sites] == [site.kind_name for site in structure.sites]
    assert back.base.extras.get('source') == 'ICSD 26410'
    assert back.cell == pytest.approx(1.01 * np.array(structure.cell))


def test_sites_in_another_order_are_no_result():
    structure = magnetite()
    with pytest.raises(ValueError, match='not those of the input in the same order'):
        restore_sites(structure, raw=orm.StructureData(ase=structure.get_ase()[::-1]))


def plain(change=lambda structure: None):
    structure = orm.StructureData(ase=copper_gold())
    change(structure)
    return structure


@pytest.mark.parametrize(
    ('change', 'loses'),
    [
        (lambda structure: None, False),
        (lambda structure: structure.set_pbc([True, True, False]), True),
        (lambda structure: structure.base.extras.set('source', 'here'), True),
    ],
)
def test_only_what_would_be_lost_is_restored(change, loses):
    assert loses_sites(plain(change), {'Cu': 'Cu', 'Au': 'Au'}) is loses


def test_isotopes_are_restored():
    water = orm.StructureData(cell=np.eye(3) * 4)
    water.append_atom(position=(0, 0, 0), symbols='H', mass=2.014)
    assert loses_sites(water, {'H': 'H'})
