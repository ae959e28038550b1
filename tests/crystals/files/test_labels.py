"""No two files share a label, and a label says no more of the path than it must."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_e3relax.crystals.files import UniqueLabels, labels_of


@pytest.mark.parametrize(
    ('paths', 'labels'),
    [
        (['a/POSCAR', 'b/POSCAR'], ['a', 'b']),
        (['x/a/POSCAR', 'y/a/POSCAR', 'z/b/POSCAR'], ['x/a', 'y/a', 'b']),
        (['a/POSCAR', 'a/CONTCAR'], ['a/POSCAR', 'a/CONTCAR']),
        (['a/vasprun.xml', 'b/structure.cif', 'c/POSCAR.gz'], ['a', 'b', 'c']),
        (['x/mgo.cif', 'x/cao.cif'], ['mgo', 'cao']),
        (['x/mgo.cif', 'y/mgo.cif'], ['x/mgo', 'y/mgo']),
        (['mgo.cif', 'mgo.vasp'], ['mgo.cif', 'mgo.vasp']),
        (['x/POSCAR_2', 'x/1.5GPa.cif'], ['POSCAR_2', '1.5GPa']),
        (['/POSCAR'], ['POSCAR']),
        (['x/mgo.cif', 'x/mgo.cif'], ['mgo', 'mgo_2']),
        (['x/a\x1b[31m.cif'], ['a\\x1b[31m']),
    ],
)
def test_labels(paths, labels):
    found = labels_of([path if path.startswith('/') else f'/data/{path}' for path in paths])
    assert [label.removeprefix('data/') for label in found] == labels


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text('ab-_/.', min_size=1, max_size=8), max_size=12), st.booleans())
def test_labels_differ(paths, cleaned):
    clean = (lambda text: re.sub('[^a-z]', '_', text)) if cleaned else str
    labels = labels_of([f'/{path}/POSCAR' if len(path) % 2 else f'/{path}' for path in paths], clean)
    assert len(set(labels)) == len(labels) == len(paths)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(['a', 'a_2', 'a_2_2', 'a_3', 'b', '']), max_size=20))
def test_claimed_labels_differ(labels):
    taken = UniqueLabels()
    given = [taken.claim(label) for label in labels]
    assert len(set(given)) == len(given)
    assert all(new.startswith(old) for new, old in zip(given, labels, strict=True))
