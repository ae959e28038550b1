"""Words as Fortran reads them, against Python's own reading of the numbers that both know."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_e3relax.common import fortran

WORDS = st.text('0123456789+-.eEdDnaifNTF_ x٣\x00', max_size=12)


@pytest.mark.parametrize('word', ['1_0', '٣', 'nan', 'inf', '1e999', '', '.', '0x10', '1.0f', '3\x00', '1e', '--1'])
def test_only_numbers_are_numbers(word):
    with pytest.raises(ValueError, match='no Fortran'):
        fortran.real(word)
    with pytest.raises(ValueError, match='no Fortran'):
        fortran.integer(word)


@pytest.mark.parametrize(
    ('word', 'value'), [('1.0d0', 1.0), ('-.5', -0.5), ('3.', 3.0), ('1D-3', 1e-3), ('+2e2', 200.0)]
)
def test_reals(word, value):
    assert fortran.real(word) == value


@pytest.mark.parametrize('word', ['2147483648', '9' * 400, '1.0', '1e3'])
def test_integers_have_four_bytes(word):
    with pytest.raises(ValueError, match='no Fortran'):
        fortran.integer(word)


@pytest.mark.parametrize(('word', 'value'), [('.TRUE.', True), ('t', True), ('.F.', False), ('False', False)])
def test_logicals(word, value):
    assert fortran.logical(word) is value


@settings(max_examples=300, deadline=None)
@given(WORDS)
def test_a_word_is_refused_or_has_the_value_that_python_gives_it(word):
    try:
        value = fortran.real(word)
    except ValueError:
        return
    assert value == float(word.lower().replace('d', 'e'))


@settings(max_examples=200, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_is_read(number):
    assert fortran.real(repr(number)) == number


@pytest.mark.parametrize(('word', 'value'), [('4*0.6', (4, 0.6)), ('-1', (1, -1.0)), ('2*1d0', (2, 1.0))])
def test_repetitions(word, value):
    assert fortran.repetition(word) == value


@pytest.mark.parametrize('word', ['2*', '*1', 'x*1', '0*1', '-3*1', '2*3*4', '1.5*2', ''])
def test_what_is_no_repetition_is_refused(word):
    with pytest.raises(ValueError, match='no Fortran'):
        fortran.repetition(word)
