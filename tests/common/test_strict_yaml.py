"""YAML of people: numbers are numbers, and nothing is lost or grows in silence."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_e3relax.common.strict_yaml import load_yaml

BOMB = 'a: &a [x, x, x, x, x, x, x, x, x, x]\n' + ''.join(
    f'{new}: &{new} [{", ".join([f"*{old}"] * 10)}]\n' for old, new in zip('abcdefgh', 'bcdefghi', strict=True)
)


def test_numbers_are_those_of_yaml_1_2():
    assert load_yaml('{a: 1e-5, b: 2.5E+3, c: 1e5x, d: .FALSE., e: 520}') == {
        'a': 1e-5,
        'b': 2500.0,
        'c': '1e5x',
        'd': '.FALSE.',
        'e': 520,
    }


def test_nothing_is_nothing():
    assert load_yaml('') is None


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('encut: 300\nencut: 400', "in line 1: 'encut' stands there twice"),
        (BOMB, 'stands for more than 100,000 values'),
        ('[' * 5000, 'too deep'),
        ('a: &a [*a]', 'too deep'),
        ('a: {', 'it is not YAML in line 1'),
        ('a: 1\n---\nb: 2', 'it is not YAML in line 2'),
        ('a: !!python/name:os.system', 'it is not YAML in line 1: could not determine a constructor'),
        ('a: \x00', 'it is not YAML'),
        ('x' * 2_000_000, 'longer than'),
    ],
)
def test_what_is_lost_or_grows_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        load_yaml(text)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('abcé 1.', max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('abc', min_size=1), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=100, deadline=None)
@given(VALUES)
def test_what_is_written_is_read(value):
    assert load_yaml(yaml.safe_dump(value)) == value
