"""INCAR tags as people write them: what VASP would read, or a refusal."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_e3relax.workflows.vasp.inputs.incar import count_numbers, read_logical, read_number
from aiida_e3relax.workflows.vasp.inputs.incar_rules import find_value_fault


@pytest.mark.parametrize('value', [True, '.TRUE.', '.true.', 'T', 'True', ' .T. '])
def test_what_is_true(value):
    assert read_logical({'lsorbit': value}, 'lsorbit') is True


@pytest.mark.parametrize('value', [False, '.FALSE.', '.false.', 'F', 'False', ' .F. '])
def test_what_is_false(value):
    assert read_logical({'lsorbit': value}, 'lsorbit') is False


def test_a_tag_that_is_not_there_is_false():
    assert read_logical({}, 'lsorbit') is False


@pytest.mark.parametrize('value', ['yes', 'off', '', 1, 0, None, [True], 'Tomato'])
def test_other_words_are_refused(value):
    with pytest.raises(ValueError, match=r'LSORBIT must be \.TRUE\. or \.FALSE\., found'):
        read_logical({'lsorbit': value}, 'lsorbit')


@pytest.mark.parametrize('value', [2, 2.0, '2', ' 2 ', '2.0', '2d0'])
def test_a_number_is_one_however_it_is_written(value):
    assert read_number({'ispin': value}, 'ispin', 1) == 2


@pytest.mark.parametrize('value', ['two', None, True, [2], float('nan'), '2 3'])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match='ISPIN must be a number'):
        read_number({'ispin': value}, 'ispin', 1)


@pytest.mark.parametrize(
    ('value', 'count'), [('8*4.0 6*0', 14), ([5, 0, '2*1'], 4), (3, 1), ('1d0 -2.', 2), ('', 0), ([], 0)]
)
def test_numbers_are_counted(value, count):
    assert count_numbers({'magmom': value}, 'magmom') == count


@pytest.mark.parametrize('value', ['x', '2*', 'x*0.6', '0*1', '-3*1', [[0, 0, 1], [0, 0, -1]], None, {'Fe': 5}, [True]])
def test_what_is_no_list_of_numbers_is_refused(value):
    with pytest.raises(ValueError, match='MAGMOM must be one list of numbers'):
        count_numbers({'magmom': value}, 'magmom')


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 50), st.floats(-10, 10)), max_size=6))
def test_a_list_has_as_many_numbers_with_and_without_repetitions(parts):
    short = ' '.join(f'{count}*{number}' for count, number in parts)
    long = [number for count, number in parts for _ in range(count)]
    assert count_numbers({'magmom': short}, 'magmom') == count_numbers({'magmom': long}, 'magmom') == len(long)


@pytest.mark.parametrize(
    ('incar', 'fault'),
    [
        ({'encut': 520, 'lreal': 'Auto', 'magmom': [1, 2.5], 'ldauu': '6*0', 'lwave': False}, None),
        ({'algo': 'Normal; ISIF = 3'}, 'ALGO must be one value, without a semicolon'),
        ({'system': 'x\nNSW = 0'}, 'SYSTEM must be one value'),
        ({'encut': float('nan')}, 'ENCUT must be a finite number'),
        ({'encut': None}, 'ENCUT must be a number, a logical, a text'),
        ({'magmom': [[0, 0, 1], [0, 0, -1]]}, 'MAGMOM must be a number'),
        ({'magmom': {'Fe': 5}}, 'MAGMOM must be a number'),
        ({'ENCUT': 520, 'encut': 400}, 'ENCUT is given twice'),
    ],
)
def test_values_that_are_no_line_of_incar_are_refused(incar, fault):
    found = find_value_fault({'incar': incar})
    assert found is None if fault is None else fault in found
