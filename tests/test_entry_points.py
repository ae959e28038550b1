"""What is installed is what `setup.json` lists, and each entry can be loaded."""

import importlib.metadata
import json
from pathlib import Path

import pytest
from aiida.engine import WorkChain
from aiida.engine.persistence import get_object_loader

from aiida_e3relax.workflows.vasp.chain import E3RelaxVaspWorkChain
from aiida_e3relax.workflows.vasp.inputs.freedom import read_freedom

SETUP = json.loads((Path(__file__).parents[1] / 'setup.json').read_text(encoding='utf-8'))
LISTED = sorted(
    (group, *(part.strip() for part in entry.split('=', 1)))
    for group, entries in SETUP['entry_points'].items()
    for entry in entries
)


def test_installed_entry_points_are_those_listed():
    installed = importlib.metadata.distribution('aiida-e3relax').entry_points
    assert sorted((point.group, point.name, point.value) for point in installed) == LISTED


def test_installed_metadata_are_those_listed():
    metadata = importlib.metadata.metadata('aiida-e3relax')
    assert metadata['Name'] == SETUP['name']
    assert metadata['Version'] == SETUP['version']
    assert metadata['Summary'] == SETUP['description']
    assert metadata.get_all('Classifier') == SETUP['classifiers']


@pytest.mark.parametrize(('group', 'name', 'value'), LISTED, ids=[f'{group}:{name}' for group, name, _ in LISTED])
def test_entry_point_loads(group, name, value):
    (point,) = importlib.metadata.entry_points(group=group, name=name)
    assert point.value == value
    assert callable(point.load())


@pytest.mark.parametrize('group', [group for group in SETUP['entry_points'] if group.startswith('aiida.')])
def test_aiida_plugins_share_one_prefix(group):
    assert all(name.startswith('e3relax.') for listed, name, _ in LISTED if listed == group)


@pytest.mark.parametrize(
    'old',
    [
        'aiida_e3relax.workflows.base:E3RelaxBaseWorkChain',
        'aiida_e3relax.workflows.resilient_vasp:ResilientVaspRelaxWorkChain',
        'aiida_e3relax.workflows.resilient_vasp:ResilientVaspWorkChain',
        'aiida_e3relax.workflows.vasp:E3RelaxVaspWorkChain',
    ],
)
def test_processes_that_have_not_ended_find_their_classes(old):
    """The checkpoint of a process names its class by the module that it was in when the process began."""
    found = get_object_loader().load_object(old)
    assert issubclass(found, WorkChain)
    assert found.__name__ == old.split(':')[1]


def test_old_public_names_are_the_new_ones():
    from aiida_e3relax.workflows import freedom, vasp

    assert freedom.read_freedom is read_freedom
    assert vasp.E3RelaxVaspWorkChain is E3RelaxVaspWorkChain
    with pytest.raises(AttributeError, match='has no attribute'):
        vasp.nothing  # noqa: B018
