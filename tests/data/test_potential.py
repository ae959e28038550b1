"""`E3RelaxPotentialData`: what it keeps, and what it refuses."""

import hashlib

import pytest
from aiida import orm

from aiida_e3relax.data.potential import E3RelaxPotentialData


@pytest.fixture
def weights(aiida_profile, tmp_path):
    path = tmp_path / 'small.model'
    path.write_bytes(b'weights of a potential')
    return path


def test_file_and_facts_survive_storing(weights):
    facts = {'licence': 'MIT', 'training_data': 'MPtrj', 'functional': 'PBE(+U)'}
    loaded = orm.load_node(E3RelaxPotentialData(weights, 'mace', **facts).store().pk)
    assert isinstance(loaded, E3RelaxPotentialData)
    assert (loaded.potential, loaded.facts, loaded.label, loaded.filename) == ('mace', facts, 'small', 'small.model')
    assert loaded.get_content(mode='rb') == weights.read_bytes()
    assert loaded.content_hash == f'sha256:{hashlib.sha256(weights.read_bytes()).hexdigest()}'


def test_the_same_weights_are_stored_once_and_other_facts_are_another_node(weights):
    first, created = E3RelaxPotentialData.get_or_create(weights, 'nequip')
    again, created_again = E3RelaxPotentialData.get_or_create(weights, 'nequip')
    assert (created, created_again, again.pk) == (True, False, first.pk)
    assert E3RelaxPotentialData.get_or_create(weights, 'nequip', licence='MIT')[1]
    assert E3RelaxPotentialData.get_or_create(weights, 'orb')[1]


def test_facts_that_are_known_need_not_be_said_again(weights):
    bare, _ = E3RelaxPotentialData.get_or_create(weights, 'mattersim')
    known, created = E3RelaxPotentialData.get_or_create(weights, 'mattersim', licence='MIT', functional='PBE')
    assert created
    for facts in ({}, {'licence': 'MIT'}, {'functional': 'PBE', 'training_data': None}):
        assert E3RelaxPotentialData.get_or_create(weights, 'mattersim', **facts)[0].pk == known.pk != bare.pk
    other, created = E3RelaxPotentialData.get_or_create(weights, 'mattersim', licence='CC-BY-4.0')
    assert (created, other.facts['functional']) == (True, None)


def test_of_facts_that_contradict_each_other_the_last_ones_hold(weights):
    E3RelaxPotentialData.get_or_create(weights, 'matgl', licence='MIT', functional='PBE')
    corrected, created = E3RelaxPotentialData.get_or_create(weights, 'matgl', licence='GPL-3.0', functional='PBE')
    assert created
    assert E3RelaxPotentialData.get_or_create(weights, 'matgl')[0].pk == corrected.pk


def test_the_same_weights_under_another_name_are_another_node(weights):
    """By which packages tell what network they are of."""
    first, _ = E3RelaxPotentialData.get_or_create(weights, 'orb')
    other, created = E3RelaxPotentialData.get_or_create(weights.rename(weights.with_name('orb-v3.model')), 'orb')
    assert (created, first.filename, other.filename) == (True, 'small.model', 'orb-v3.model')


def test_what_is_no_weights_is_refused(weights):
    with pytest.raises(ValueError, match='absent`: no such file'):
        E3RelaxPotentialData(weights.with_name('absent'), 'mace')
    with pytest.raises(ValueError, match=r"`potential`: expected one of chgnet, .*, found 'emt'"):
        E3RelaxPotentialData(weights, 'emt')
    with pytest.raises(ValueError, match=r'the package of chgnet brings its weights, and takes no others.* mace'):
        E3RelaxPotentialData(weights, 'chgnet')
