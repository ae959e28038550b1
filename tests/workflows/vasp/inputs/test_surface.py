"""Which INCAR tags put energies of one crystal on different scales."""

import pytest

from aiida_e3relax.workflows.vasp.inputs.surface import OTHER_TAGS, chosen_tags, is_of_surface, other_surface


@pytest.mark.parametrize(
    ('first', 'last', 'tags'),
    [
        ({}, {}, []),
        ({'encut': 520}, {'ENCUT': '520.0'}, []),
        ({'lhfcalc': False, 'ldau': '.FALSE.'}, {}, []),
        ({'ismear': 0, 'sigma': 0.05, 'nsw': 99, 'ediff': 1e-5}, {'ismear': -5, 'ediff': 1e-7, 'lorbit': 11}, []),
        ({'encut': 520}, {'encut': 600, 'metagga': 'r2scan'}, ['METAGGA', 'ENCUT']),
        ({'ldau': True, 'ldauu': [3.9, 0]}, {'ldau': True, 'ldauu': '3.9 0'}, []),
        ({'ldau': True, 'ldauu': [3.9, 0]}, {'ldau': True, 'ldauu': '4.0 0'}, ['LDAUU']),
        ({'ldau': True}, {'ldau': 'F'}, ['LDAU']),
        ({'ivdw': 11, 'vdw_s8': 0.7}, {'ivdw': 11, 'vdw_s8': 0.8}, ['VDW_S8']),
        ({'ldau': True, 'ldauu': [3.9, 0.0]}, {'ldau': True, 'ldauu': '3.90  0.0', 'ldautype': 2}, []),
        ({'ldau': True, 'ldautype': 1}, {'ldau': True}, ['LDAUTYPE']),
        ({'ldau': True, 'ldauprint': 0}, {'ldau': True, 'ldauprint': 2}, []),
        ({'ldau': False, 'ldauu': [3.9, 0], 'ldaul': [2, -1], 'ldautype': 4}, {}, []),
        ({'ispin': 2}, {'ispin': 1}, ['ISPIN']),
        ({'ispin': 1, 'ivdw': 0, 'nupdown': '-1', 'prec': 'Normal'}, {}, []),
        ({'ispin': 2, 'nupdown': 2}, {'ispin': 2}, ['NUPDOWN']),
        ({'prec': 'accurate'}, {'prec': 'A'}, []),
        ({'prec': 'Accurate'}, {'prec': 'Normal'}, ['PREC']),
        ({'prec': 'Single'}, {'prec': 'SingleN'}, ['PREC']),
        ({'gga_compat': True, 'precfock': 'Normal', 'nkred': 1, 'ml_lmlff': 'F', 'i_constrained_m': 0}, {}, []),
        ({'gga_compat': '.FALSE.'}, {}, ['GGA_COMPAT']),
        ({'precfock': 'Fast', 'nkred': 2}, {'precfock': 'F'}, ['NKRED']),
        ({'ml_lmlff': True}, {'i_constrained_m': 1}, ['I_CONSTRAINED_M', 'ML_LMLFF']),
    ],
)
def test_tags_that_put_energies_on_another_scale_are_found(first, last, tags):
    assert other_surface(first, last) == other_surface(last, first) == tags


def test_words_are_told_as_vasp_reads_them():
    found = [
        chosen_tags({'PREC': word, 'PRECFOCK': 'Fast'}, is_of_surface) for word in ('A', 'accurate', 'SingleNormal')
    ]
    assert found == [{'PRECFOCK': 'F', 'PREC': prec} for prec in ('A', 'A', 'SINGLEN')]


@pytest.mark.parametrize(
    ('moments', 'signs'),
    [
        ('2*5.0 2*-5.0', 'of both signs'),
        ([5.0, 0.6, 0], 'of one sign'),
        ('-5 -0.6', 'of one sign'),
        (0, 'all 0'),
        ('5 up', '5 up'),
    ],
)
def test_of_moments_their_signs_are_told(moments, signs):
    assert chosen_tags({'MAGMOM': moments}, OTHER_TAGS.__contains__) == {'MAGMOM': signs}
