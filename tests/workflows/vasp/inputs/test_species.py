import numpy as np
import pytest
from aiida import orm
from ase import Atoms

from aiida_e3relax.workflows.vasp.inputs.species import (
    list_species,
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


def test_hubbard_corrections_follow_the_species_of_poscar():
    made = translate_species(magnetite(), POTENTIALS, {**IRON_U, 'jmapping': {'Fe': 0.5}})
    assert made.potential_mapping == {'Fe': 'Fe_pv', 'O': 'O'}
    assert list_species(magnetite()) == ['Fe', 'O'] * 3
    assert made.tags == {
        **{'ldau': True, 'ldautype': 2, 'lmaxmix': 4},
        **{'ldaul': [2, -1] * 3, 'ldauu': [3.8, 0.0] * 3, 'ldauj': [0.5, 0.0] * 3},
    }


def test_corrections_that_vanish_are_none():
    assert translate_species(magnetite(), POTENTIALS, {'mapping': {'Fe': ['d', 0.0]}}).tags == {}


def test_moments_follow_the_sites_and_a_kind_goes_before_its_element():
    made = translate_species(magnetite(), POTENTIALS, None, {'Fe': 4.0, 'Fe1': -4.0, 'default': 0.5})
    by_kind = {'Fe1': '-4.0', 'Fe2': '4.0', 'O': '0.5'}
    assert made.tags['magmom'].split() == [by_kind[site.kind_name] for site in magnetite().sites]
    assert sum(float(word) for word in made.tags['magmom'].split()) == pytest.approx(4 * 4 - 2 * 4 + 8 * 0.5)


def test_a_moment_may_have_three_components_and_a_number_is_one_along_z():
    moments = {'Mn1': [0, 0, 3], 'Mn2': -3, 'N': [0, 0, 0]}
    made = translate_species(manganese_nitride(), POTENTIALS, None, moments, noncollinear=True)
    assert made.tags['magmom'] == '0 0 3 0 0 0 0 0 -3 0 0 0'


def test_elements_without_moments_have_no_tag():
    assert (
        translate_species(orm.StructureData(ase=copper_gold()), {'Cu': 'Cu', 'Au': 'Au'}, None, {'Fe': 5.0}).tags == {}
    )


def test_kinds_apart_may_have_another_hubbard_correction():
    settings = {'mapping': {'Mn': ['d', 3.9], 'Mn2': ['d', 3.5]}}
    assert translate_species(manganese_nitride(), POTENTIALS, settings).tags['ldauu'] == [3.9, 0.0, 3.5, 0.0]


def ceria():
    structure = orm.StructureData(cell=np.eye(3) * 6)
    structure.append_atom(position=(0, 0, 0), symbols='Ce', name='Ce1')
    structure.append_atom(position=(3, 3, 3), symbols='Ce', name='Ce2')
    return structure


def test_neighbours_of_one_element_with_other_corrections_are_refused():
    with pytest.raises(ValueError, match='put sites of another element between'):
        translate_species(ceria(), {'Ce': 'Ce'}, {'mapping': {'Ce1': ['f', 5.0], 'Ce2': ['f', 4.0]}})


def test_kinds_of_one_element_with_other_potentials_are_refused():
    with pytest.raises(ValueError, match='give one potential an element'):
        translate_species(manganese_nitride(), {**POTENTIALS, 'Mn2': 'Mn'})


def test_f_electrons_need_their_density_matrix():
    assert (
        translate_species(ceria(), {'Ce': 'Ce'}, {'mapping': {'Ce1': ['f', 5.0], 'Ce2': ['f', 5.0]}}).tags['lmaxmix']
        == 6
    )


def test_sites_go_and_come_back_in_their_order_with_all_they_have():
    structure = magnetite()
    structure.base.extras.set('source', 'ICSD 26410')
    sent = name_species(structure)
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
    assert loses_sites(plain(change)) is loses


def test_isotopes_are_restored():
    water = orm.StructureData(cell=np.eye(3) * 4)
    water.append_atom(position=(0, 0, 0), symbols='H', mass=2.014)
    assert loses_sites(water)
