"""A potential in the network's place, on the way through the chain: asked for, held to what moves, judged, and told."""

import pytest
from aiida.engine import run_get_node

from aiida_e3relax.common.mappings import merge

pytest.importorskip('chgnet')

REJECTED = {'guard': {'energy_rise_max_eV_per_atom': -10.0}}  # which no prediction keeps


def test_a_potential_takes_the_place_of_the_network(make_builder):
    parameters = {'device': 'cpu', 'steps': 3, 'force_max_eV_per_A': 0.01}
    overrides = merge(REJECTED, {'network': {'predict': {'parameters': parameters}}, 'reference_leg': 'never'})
    builder = make_builder(pre_relaxer='chgnet', freedom='positions', overrides=overrides)
    _, chain = run_get_node(builder)
    assert chain.exit_status == 0, chain.exit_message

    guard, comparison = chain.outputs.guard.get_dict(), chain.outputs.comparison.get_dict()
    assert guard['verdict'] == 'rejected'
    (reason,) = guard['reasons']
    assert 'by the potential (bound -10 eV/atom)' in reason
    network = comparison['network']
    assert (network['pre_relaxer'], network['content_hash']) == ('chgnet', None)
    did = network['potential']
    assert (did['steps'], did['steps_max'], did['converged'], did['start']) == (3, 3, False, 'input')
    rise = did['energy_prediction_eV_per_atom'] - did['energy_input_eV_per_atom']
    assert guard['numbers']['energy_rise_eV_per_atom'] == pytest.approx(rise)
    assert rise < 0
    assert chain.outputs.predicted_structure.cell == builder.structure.cell
    assert chain.outputs.predicted_structure.sites != builder.structure.sites
