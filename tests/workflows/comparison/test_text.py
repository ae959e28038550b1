import pytest
from rich.console import Console

from aiida_e3relax.workflows.comparison.text import format_comparison

LEG = {
    'code_version': '6.4.2-standin-gpaw',
    'stand_in': 'gpaw',
    'finished': True,
    'vasp_runs': 1,
    'ionic_steps': 10,
    'electronic_steps': None,
    'energy_final_eV_per_atom': -3.25,
}
COMPARISON = {
    'formula': 'AlSb',
    'remarks': [],
    'guard': {'verdict': 'accepted', 'reasons': []},
    'network': {'wall_time_s': 0.4, 'device': 'cuda:0'},
    'raw': LEG,
    'predicted': LEG | {'ionic_steps': 4},
    'ionic_steps_saved': 6,
    'ionic_steps_saved_percent': 60.0,
    'energy_difference_final_meV_per_atom': 0.4,
    'same_minimum': True,
}


def text_of(**changes) -> str:
    console = Console(width=160)
    with console.capture() as capture:
        console.print(format_comparison(COMPARISON | changes))
    return capture.get()


def row_of(text: str, title: str) -> list[str]:
    line = next(line for line in text.splitlines() if title in line)
    return [cell.strip() for cell in line.split('│')[2:-1]]


def test_table_sets_the_legs_side_by_side():
    text = text_of()
    assert row_of(text, 'ionic steps') == ['10', '4', '-6']
    assert row_of(text, 'end: energy') == ['-3.2500', '-3.2500', '+0.0000']
    assert 'The prediction saved 6 ionic steps (60 %).' in text
    assert 'The network took 400 ms on cuda:0.' in text


def test_time_of_a_run_over_many_crystals_is_said_to_be_a_share():
    text = text_of(network={'wall_time_s': 0.4, 'device': 'cuda:0', 'structures_in_run': 300})
    assert 'The network took 400 ms on cuda:0, the share of this crystal in a run of 300.' in text


def test_a_second_opinion_is_told():
    energies = {'energy_input_eV_per_atom': -3.0, 'energy_prediction_eV_per_atom': -3.25}
    forces = {'max_force_input_eV_per_A': 2.0, 'max_force_prediction_eV_per_A': 0.125}
    opinion = {'potential': 'chgnet', 'steps': 5, 'improved': False, **energies, **forces}
    network = COMPARISON['network'] | {'second_opinion': opinion}
    told = 'Second opinion of chgnet: the prediction changes the energy by -250 meV/atom, the largest force from 2.00'
    assert told in text_of(network=network)
    network = COMPARISON['network'] | {'second_opinion': opinion | {'improved': True}}
    assert 'the prediction, after 5 steps of it, changes' in ' '.join(text_of(network=network).split())
    of_raw = {'energy_input_eV_per_atom': None, 'max_force_input_eV_per_A': None, 'input_error': 'overlapping atoms'}
    network = COMPARISON['network'] | {'second_opinion': opinion | of_raw}
    assert 'Second opinion of chgnet: none of the raw crystal, overlapping atoms.' in text_of(network=network)
    network = COMPARISON['network'] | {'second_opinion': {'potential': 'chgnet', 'error': 'ValueError: isolated atom'}}
    assert 'Second opinion of chgnet: none, ValueError: isolated atom.' in text_of(network=network)


def test_what_a_potential_did_is_told():
    """Also of a potential that only another version knows."""
    did = {
        'energy_input_eV_per_atom': -3.0,
        'energy_prediction_eV_per_atom': -3.25,
        'max_force_prediction_eV_per_A': 0.0125,
        'converged': True,
        'steps': 17,
        'left_basin': True,
        'basin': ['Cu 1 had 12 Au around it, now 8'],
    }
    network = COMPARISON['network'] | {
        'pre_relaxer': 'network+newer-than-this',
        'content_hash': None,
        'potential': {'potential': 'newer-than-this', 'weights': 'v2', **did},
    }
    text = ' '.join(text_of(network=network).split())
    assert 'The network with newer-than-this took' in text
    assert (
        'newer-than-this (v2) converged in 17 steps: energy -250 meV/atom from the raw crystal, largest force' in text
    )
    assert 'It left the basin where it started: Cu 1 had 12 Au around it, now 8.' in text
    of_raw = {'energy_input_eV_per_atom': None, 'input_error': 'overlapping atoms'}
    unknown = network | {'potential': {'potential': 'chgnet', **did, **of_raw}}
    text = ' '.join(text_of(network=unknown).split())
    assert 'energy of the raw crystal not known (overlapping atoms), largest force 0.013 eV/A.' in text
    failed = network | {'potential': {'potential': 'chgnet', 'error': 'isolated atom'}}
    assert 'chgnet could not relax it: isolated atom.' in text_of(network=failed)


@pytest.mark.parametrize(('start', 'words'), [('input', 'raw crystal'), ('network', 'prediction of the network')])
def test_where_a_potential_lowered_no_energy_it_is_told_what_stands(start, words):
    did = {'converged': False, 'steps': 200, 'improved': False, 'left_basin': False, 'start': start}
    did |= {'energy_input_eV_per_atom': -3.0, 'energy_prediction_eV_per_atom': -3.0}
    did |= {'potential': 'chgnet', 'max_force_prediction_eV_per_A': 0.5}
    text = ' '.join(text_of(network=COMPARISON['network'] | {'potential': did}).split())
    assert f'chgnet found no lower energy in 200 steps, so that the {words} stands: energy +0 meV/atom' in text
    text = ' '.join(text_of(network=COMPARISON['network'] | {'potential': did | {'steps': 0}}).split())
    assert 'chgnet did not converge in 0 steps' in text


def test_what_was_not_measured_is_a_dash():
    assert row_of(text_of(), 'electronic steps') == ['-', '-', '-']
    assert row_of(text_of(predicted=None), 'ionic steps') == ['10', '-', '-']


@pytest.mark.parametrize(
    ('leg', 'said'),
    [
        (LEG, 'Computed by the VASP stand-in, not by VASP: GPAW'),
        (LEG | {'code_version': '6.4.3', 'stand_in': None}, 'Computed by VASP 6.4.3.'),
    ],
)
def test_nobody_takes_a_stand_in_for_vasp(leg, said):
    assert said in text_of(raw=leg, predicted=leg)


def test_a_different_minimum_and_lost_steps_are_said():
    text = text_of(same_minimum=False, ionic_steps_saved=-1, ionic_steps_saved_percent=-10.0)
    assert 'They do NOT end in the same minimum' in text
    assert 'The prediction cost 1 ionic step (10 %).' in text


def test_savings_that_are_not_known_are_not_told():
    text = text_of(raw=LEG | {'ionic_steps': None}, ionic_steps_saved=None, ionic_steps_saved_percent=None)
    assert row_of(text, 'ionic steps') == ['-', '4', '-']
    assert 'ionic step' not in text.split('Computed by')[1]
    assert 'The prediction cost 4 ionic steps.' in text_of(ionic_steps_saved=-4, ionic_steps_saved_percent=None)


def test_times_of_a_leg_that_was_not_run_beside_the_other_have_no_difference():
    told = {'wall_time_s': 50.0, 'core_time_s': 200.0, 'vasp_runs_from_cache': 1}
    legs = {'raw': LEG | told, 'predicted': LEG | {'wall_time_s': 20.0, 'core_time_s': 80.0, 'vasp_runs_from_cache': 0}}
    assert row_of(text_of(**legs), 'time of VASP') == ['50.0', '20.0', '-30.0']
    apart = text_of(**legs, times_side_by_side=False, wall_time_saved_s=None, core_time_saved_s=None)
    assert row_of(apart, 'time of VASP') == ['50.0', '20.0', '-']
    assert row_of(apart, 'time of all its cores') == ['200.0', '80.0', '-']
    assert 'AiiDA took one of them from its cache' in apart


def test_legs_on_other_numbers_of_cores_have_the_difference_of_their_core_times():
    legs = {'raw': LEG | {'wall_time_s': 50.0, 'core_time_s': 200.0, 'vasp_runs_from_cache': 0}}
    legs['predicted'] = legs['raw'] | {'core_time_s': 400.0}
    text = text_of(**legs, times_side_by_side=False, wall_time_saved_s=None, core_time_saved_s=-200.0)
    assert row_of(text, 'time of VASP') == ['50.0', '50.0', '-']
    assert row_of(text, 'time of all its cores') == ['200.0', '400.0', '+200.0']
    assert 'cache' not in text


def test_the_programs_are_those_that_the_legs_name():
    nameless, vasp = ({'code_version': version, 'stand_in': None} for version in (None, '6.4.3'))
    assert 'Computed by VASP 6.4.3.' in text_of(raw=LEG | nameless, predicted=LEG | vasp)
    newer = vasp | {'code_version': '6.5.1'}
    assert 'Computed by VASP 6.4.3 and 6.5.1.' in text_of(raw=LEG | vasp, predicted=LEG | newer)
    text = text_of(raw=LEG | nameless, predicted=None)
    assert 'No VASP run got as far as naming its program.' in text


def test_remarks_and_warnings_of_the_guard_are_shown():
    guard = {'verdict': 'accepted with warnings', 'reasons': ['the volume changes']}
    remarks = ['The relaxation from the prediction failed', 'The sub process excepted.']
    text = text_of(remarks=remarks, guard=guard)
    assert 'excepted..' not in text
    assert 'The prediction was accepted with warnings by the guard; the volume changes.' in text
    assert 'The relaxation from the prediction failed.' in text
    text = text_of(guard={'verdict': 'unchecked', 'reasons': []})
    assert "The guard's bounds were not looked at (mode off)." in text
    assert 'by the guard' not in text
