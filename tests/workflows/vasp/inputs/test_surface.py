"""Which INCAR tags put energies of one crystal on different scales."""

import pytest

from aiida_e3relax.workflows.vasp.inputs.surface import other_surface


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
        ({'ispin': 2}, {'ispin': 1}, ['ISPIN']),
    ],
)
def test_tags_that_put_energies_on_another_scale_are_found(first, last, tags):
    assert other_surface(first, last) == other_surface(last, first) == tags
