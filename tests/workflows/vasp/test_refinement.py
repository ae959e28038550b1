"""A second opinion on the way through the chain: asked for, given, judged by, and told."""

import pytest
from aiida.engine import run_get_node

pytest.importorskip('chgnet')


def test_a_second_opinion_reaches_the_guard_and_the_comparison(make_builder):
    parameters = {'device': 'cpu', 'second_opinion': 'chgnet', 'second_opinion_steps': 2}
    overrides = {
        'network': {'predict': {'parameters': parameters}},
        'guard': {'energy_rise_max_eV_per_atom': -10.0},  # which no prediction keeps
        'reference_leg': 'never',
    }
    _, chain = run_get_node(make_builder(overrides=overrides))
    assert chain.exit_status == 0, chain.exit_message
    guard, comparison = chain.outputs.guard.get_dict(), chain.outputs.comparison.get_dict()
    assert guard['verdict'] == 'rejected'
    (reason,) = guard['reasons']
    assert 'by the second opinion (bound -10 eV/atom)' in reason
    opinion = comparison['network']['second_opinion']
    assert (opinion['potential'], opinion['steps'], opinion['improved']) == ('chgnet', 2, True)
    rise = opinion['energy_prediction_eV_per_atom'] - opinion['energy_input_eV_per_atom']
    assert guard['numbers']['energy_rise_eV_per_atom'] == pytest.approx(rise)
    assert rise < 0
