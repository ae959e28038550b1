"""INCAR: syntax, values, and what is refused."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_e3relax.standin.errors import StandInError
from aiida_e3relax.standin.incar import Incar
from aiida_e3relax.standin.settings import HubbardU, Settings
from aiida_e3relax.standin.tags import without_effect


def test_syntax():
    incar = Incar('# head\nencut = 300 ; nsw=5 ! steps\nMAGMOM = 2*1.5 \\\n -1\n\nNSW = 5\nLREAL = .FALSE.\n')
    assert list(incar.tags) == ['ENCUT', 'NSW', 'MAGMOM', 'LREAL']
    assert incar.tags['ENCUT'] == '300'
    assert incar.reals('MAGMOM') == [1.5, 1.5, -1.0]
    assert incar.integer('NSW', 0) == 5
    assert incar.logical('LREAL', True) is False


def test_fortran_exponent():
    assert Incar('EDIFF = 1.0D-6').real('EDIFF', 0.0) == 1e-6


@pytest.mark.parametrize('line', ['NSW 5', 'NSW =', '= 5', 'relaxation'])
def test_corrupt_line_names_its_number(line):
    with pytest.raises(StandInError, match='INCAR line 2: expected'):
        Incar(f'ENCUT = 300\n{line}\n')


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('NSW = many', 'NSW must be an integer'),
        ('EDIFF = small', 'EDIFF must be a number'),
        ('LDAU = 1', 'LDAU must be .TRUE. or .FALSE.'),
        ('NSW = 5', 'IBRION must be one of -1, 1, 2, 3 for the stand-in, found 0'),
        ('IBRION = 6\nNSW = 1', 'IBRION must be one of'),
        ('ISIF = 9', 'ISIF must be one of'),
        ('POTIM = 0', 'POTIM must be positive'),
        ('ENCUT = -5', 'ENCUT must be positive'),
        ('LATTICE_CONSTRAINTS = T F', 'LATTICE_CONSTRAINTS needs three logicals'),
        ('IVDW = 12', 'IVDW = 12 is not supported'),
        ('LHFCALC = .TRUE.', 'LHFCALC = .TRUE. is not supported'),
        ('LNONCOLLINEAR = T', 'LNONCOLLINEAR = T is not supported'),
        ('METAGGA = SCAN', 'METAGGA = SCAN is not supported'),
        ('ICHARG = 11', 'ICHARG = 11 is not supported'),
        ('ALGO = GW0', 'ALGO = GW0 is not supported'),
        ('NELECT = 9', 'NELECT is not known'),
        ('EDIFFF = 1', r'EDIFFF is not known to the stand-in \(did you mean EDIFF'),
        ('LDAU = T\nLDAUTYPE = 4', 'LDAUTYPE must be 2'),
        ('LDAU = T\nLDAUL = 2 -1', 'needs LDAUU'),
        ('LDAU = T\nLDAUL = 2 -1\nLDAUU = 3', 'differ in length'),
    ],
)
def test_refusals_say_what_is_wrong(text, message):
    with pytest.raises(StandInError, match=message):
        Settings.from_incar(Incar(text))


def test_features_that_are_switched_off_are_accepted():
    Settings.from_incar(Incar('IVDW = 0\nLHFCALC = .FALSE.\nMETAGGA = None\nLSORBIT = F\nNUPDOWN = -1\nICHARG = 2'))


def test_defaults_are_those_of_vasp():
    settings = Settings.from_incar(Incar('EDIFF = 1e-5'))
    assert (settings.nsw, settings.ibrion, settings.isif, settings.nelm) == (0, -1, 2, 60)
    assert (settings.ispin, settings.ismear, settings.sigma, settings.potim) == (1, 1, 0.2, 0.5)
    assert settings.ediffg == pytest.approx(1e-4)
    assert settings.static


def test_hubbard_per_species():
    settings = Settings.from_incar(Incar('LDAU = T\nLDAUL = 2 -1\nLDAUU = 4.0 0\nLDAUJ = 0.7 0'))
    assert settings.hubbard == (HubbardU(2, pytest.approx(3.3)), None)


def test_tags_without_effect_are_named():
    incar = Incar('ENCUT = 300\nNPAR = 4\nNSW = 3')
    assert without_effect(incar, electronic=True) == ['NPAR']
    assert without_effect(incar, electronic=False) == ['ENCUT', 'NPAR']


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('NSW = 3 \\\n 4', 'NSW must be an integer'),
        ('NSW = 1_0', 'NSW must be an integer'),
        ('NSW = ٣', 'NSW must be an integer'),
        (f'NSW = {"9" * 5000}', r'NSW must be an integer, found .{,80}; correct it'),
        ('EDIFF = nan', 'EDIFF must be a number'),
        ('ENCUT = inf', 'ENCUT must be a number'),
        ('MAGMOM = x*0.6', 'MAGMOM must be a list of numbers'),
        ('MAGMOM = 2*', 'MAGMOM must be a list of numbers'),
        ('MAGMOM = -3*1', 'MAGMOM must be a list of numbers, from 1 to'),
        ('MAGMOM = 0*1', 'MAGMOM must be a list of numbers, from 1 to'),
        ('MAGMOM = 2000000000*0.6', 'MAGMOM must be a list of numbers, from 1 to'),
        ('LDAU = T\nLDAUL = 2.5\nLDAUU = 3', 'LDAUL must be a list of integers'),
        ('LDAU = T\nLDAUL = 7\nLDAUU = 3', 'LDAUL must be -1, 0, 1, 2 or 3'),
        ('LDAU = Tomato', 'LDAU must be .TRUE. or .FALSE.'),
    ],
)
def test_values_that_are_not_what_they_look_like_are_refused(text, message):
    with pytest.raises(StandInError, match=message):
        Settings.from_incar(Incar(text))


def test_two_values_of_a_tag_are_refused():
    with pytest.raises(StandInError, match="INCAR line 2: ENCUT = '400', but '300' above"):
        Incar('ENCUT = 300\nENCUT = 400')


def test_a_word_after_a_number_is_a_comment():
    assert Incar('ISMEAR = 0 Gaussian smearing').integer('ISMEAR', 1) == 0


def test_a_negative_smass_means_a_quench():
    assert Settings.from_incar(Incar('IBRION = 3\nSMASS = -2')).smass is None


@settings(max_examples=200, deadline=None)
@given(st.text('ABNSW=0123456789*.#!;\\ \n\tTF', max_size=60))
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(StandInError):
        assert Settings.from_incar(Incar(text)).nelm > 0
