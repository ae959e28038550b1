"""What a person is told of the tables of arms before comparing them."""

from __future__ import annotations

import pandas as pd

from aiida_e3relax.campaign.results.arm_notes import iterate_notes
from tests.campaign.results.test_arms import with_steps


def make_arms() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return two arms that nothing is to be said of."""
    arms = with_steps(7, 4, 5, 6, 9, 5), with_steps(5, 4, 4, 5, 6, 3)
    for arm in arms:
        for leg in ('raw', 'predicted'):
            arm[f'{leg}_vasp_runs'], arm[f'{leg}_algo'] = 1.0, 'cg'
    return arms


def notes_on(one: pd.DataFrame, other: pd.DataFrame) -> list[str]:
    return list(iterate_notes({'one': one, 'other': other}))


def test_arms_alike_have_no_note():
    assert notes_on(*make_arms()) == []


def test_another_algorithm_of_one_leg_is_told():
    one, other = make_arms()
    one.loc['a', 'predicted_algo'] = 'rd'
    (note,) = notes_on(one, other)
    assert note.startswith('one: VASP moved the ions by `rd` from the predictions, by `cg` from the raw crystals')


def test_an_algorithm_that_a_restart_changed_is_told_of_its_crystals():
    one, other = make_arms()
    one.loc['a', 'predicted_algo'] = 'cg, then rd'
    assert notes_on(one, other) == [
        'one: on 1 crystal (a) a restart of the relaxation from the prediction changed how VASP moves the ions.'
    ]


def test_times_that_count_threads_and_others_are_told_apart():
    one, other = make_arms()
    for arm in (one, other):
        arm['device'] = 'cpu'
    assert notes_on(one, other) == [], 'all of earlier versions'
    other['network_core_time_s'] = 8.0
    (note,) = notes_on(one, other)
    assert 'has measured it, in one on 6 (a, b, c, d and 2 more), and for each thread elsewhere' in note
    one['device'] = 'cuda:0'
    assert notes_on(one, other) == [], 'a second of a GPU counts as one of a core anyway'


def test_what_is_waiting_is_told():
    one, other = make_arms()
    one.loc[['a', 'b'], 'state'] = ['running', 'waiting']
    assert notes_on(one, other) == ['one: 2 of 6 structures are waiting or running, and in no figure yet.']


def test_starts_that_the_potential_did_not_make_are_told():
    one, other = make_arms()
    one['model'] = 'hash'
    one.loc[['a', 'c'], 'potential_error'] = 'no convergence of the charges'
    one.loc['b', 'potential_converged'] = False
    one.loc[list('abcdef'), 'potential_left_basin'] = [None, False, None, True, True, True]
    other.loc['a', 'potential_error'] = 'nothing to fall back on'  # no start at all, which is no note but counted
    assert notes_on(one, other) == [
        'one: on 2 of 6 crystals (a, c) the potential failed, and the prediction of the network alone counts for the '
        'arm.',
        'one: on 1 of 6 crystals (b) the potential did not converge.',
        'one: on 3 of 6 crystals (d, e, f) the potential left the basin where it started.',
    ]


def test_raw_legs_that_differ_are_told():
    one, other = make_arms()
    other.loc['a', 'raw_ionic_steps'] = 12
    other.loc['c', 'raw_energy_final_eV_per_atom'] += 2e-4
    other.loc['d', 'raw_energy_final_eV_per_atom'] += 5e-5  # noise
    (note,) = notes_on(one, other)
    assert 'in ionic steps, core time or final energy on 2 crystals (a, c): each arm is held against its own' in note
    assert note.endswith('what stands for the raw crystals by themselves is of one.')


def test_other_versions_of_vasp_are_told():
    one, other = make_arms()
    other.loc[['a', 'b'], 'predicted_code_version'] = '6.5.1'
    within, between = notes_on(one, other)
    assert within.startswith(
        'other: on 2 crystals (a, b) the relaxation from the raw crystal is by VASP 6.4.3, that from the prediction by '
        '6.5.1'
    )
    assert between.startswith('The arms are by other versions of VASP: 6.4.3 from one, 6.4.3 and 6.5.1 from other')


def test_restarts_are_told():
    one, other = make_arms()
    for arm in (one, other):
        arm.loc['f', 'raw_vasp_runs'] = 3
    other.loc[['a', 'b'], 'predicted_vasp_runs'] = 2
    other.loc['b', 'predicted_finished'] = False
    (note,) = notes_on(one, other)
    assert note.startswith('Relaxations in several VASP runs: from the raw crystals 1 (f), from other 1 (a). Each')
