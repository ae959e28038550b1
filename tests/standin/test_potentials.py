"""Generated potentials: names, valences, and the upload by aiida-vasp."""

import pytest
from aiida.plugins import DataFactory
from click.testing import CliRunner
from pymatgen.io.vasp.sets import MPRelaxSet

from aiida_e3relax.standin.cli import main
from aiida_e3relax.standin.errors import StandInError
from aiida_e3relax.standin.potcar import parse_potcar
from aiida_e3relax.standin.potentials import potential_names, potential_text, valence_electrons


@pytest.mark.parametrize(
    ('name', 'electrons'),
    [
        *[('H', 1), ('O', 6), ('Na', 1), ('Na_pv', 7), ('Li_sv', 3), ('Ca_sv', 10), ('Ti', 4), ('Ti_pv', 10)],
        *[('Cu', 11), ('Zn', 12), ('Ga', 3), ('Ga_d', 13), ('As', 5), ('In_d', 13), ('La', 3), ('Gd', 10)],
        *[('Er', 14), ('Er_3', 3), ('Yb_2', 2), ('Hf', 4), ('Au', 11), ('Pb', 4), ('Pb_d', 14), ('U', 6)],
    ],
)
def test_valences(name, electrons):
    assert valence_electrons(name) == electrons


def test_every_element_and_every_name_of_mprelaxset():
    names = set(potential_names())
    assert {'H', 'Pu', 'Tc'} <= names
    assert set(MPRelaxSet.CONFIG['POTCAR'].values()) <= names
    assert potential_names(['Ti', 'O']) == ['O', 'Ti', 'Ti_pv']


def test_text_says_what_it_is():
    (dataset,) = parse_potcar(potential_text('Ga_d'))
    assert (dataset.element, dataset.zval, dataset.lexch) == ('Ga', 13, 'PE')
    assert dataset.title == 'PAW_PBE Ga_d standin'


def test_unreadable_potcars():
    with pytest.raises(StandInError, match='found none'):
        parse_potcar('')
    with pytest.raises(StandInError, match='dataset 2 has no readable ZVAL'):
        parse_potcar(potential_text('O') + potential_text('Ti').replace('ZVAL', 'XVAL'))


def test_unknown_element_is_named(tmp_path):
    result = CliRunner().invoke(main, ['potentials', str(tmp_path), '--elements', 'Cu,Xy'])
    assert result.exit_code == 1
    assert 'Xy' in result.output


def test_upload_by_aiida_vasp(aiida_profile, tmp_path):
    result = CliRunner().invoke(main, ['potentials', str(tmp_path)])
    assert result.exit_code == 0, result.output
    potcar = DataFactory('vasp.potcar')
    found, added, _ = potcar.upload_potcar_family(tmp_path, 'standin-all', 'all elements', stop_if_existing=False)
    assert found == added == len(potential_names())
    node = potcar.find_one(family='standin-all', full_name='Ti_pv')
    assert (node.element, node.full_name) == ('Ti', 'Ti_pv')
    mapping = {'Ti': 'Ti_pv', 'O': 'O'}
    found_nodes = potcar.get_potcars_dict(elements=['Ti', 'O'], family_name='standin-all', mapping=mapping)
    assert {element: found_node.full_name for element, found_node in found_nodes.items()} == mapping
