"""What is read from the report of a run of the network over one crystal or several."""

import pytest

from aiida_e3relax.calculations.pre_relaxer import PreRelaxer
from aiida_e3relax.workflows.network.report import (
    find_relaxation,
    find_remarks,
    network_facts,
    stated_distance,
    stated_uncertainty,
)

NEAR = {
    'distance_to_training': 1.5,
    'unlike_training': True,
    'nearest_training': {'label': 'mp-1', 'formula': 'NaCl'},
}
REPORT = {
    'model': {'content_hash': 'sha256:0'},
    'device': {'used': 'cuda:0'},
    'timings_s': {'total': 8.0},
    'structures': [
        {'label': 'a', 'n_atoms': 6, 'uncertainty_A': 0.2, **NEAR},
        {'label': 'b', 'n_atoms': 2, 'status': 'empty'},
    ],
}
ALONE = REPORT | {'structures': REPORT['structures'][:1]}


def test_facts_are_those_of_the_structure_asked_for():
    facts = network_facts(REPORT, 'a')
    assert (
        facts.items()
        >= {
            'content_hash': 'sha256:0',
            'device': 'cuda:0',
            'structures_in_run': 2,
            'wall_time_s': 6.0,
            'uncertainty_A': 0.2,
            **NEAR,
        }.items()
    )
    assert stated_uncertainty(REPORT, 'b') is None
    assert stated_distance(REPORT, 'a') == 1.5
    assert network_facts(REPORT, 'b').items() >= dict.fromkeys(NEAR).items(), 'as of a network that cannot tell'


def test_the_shares_of_all_structures_are_the_time_of_the_run():
    assert sum(network_facts(REPORT, label)['wall_time_s'] for label in 'ab') == 8.0


def test_the_time_of_a_potential_counts_for_the_structure_it_was_spent_on():
    potential = {'potential': 'chgnet', 'start': 'input', 'steps': 9}
    took = {'a': 1.0, 'b': 5.0}
    rows = [row | {'potential': {'error': 'no', 'wall_time_s': took[row['label']]}} for row in REPORT['structures']]
    report = REPORT | {'model': None, 'potential': potential, 'structures': rows}
    assert [network_facts(report, label)['wall_time_s'] for label in 'ab'] == [2.5, 5.5]
    assert network_facts(report, 'a')['pre_relaxer'] == 'chgnet'
    assert network_facts(report, 'a')['potential']['wall_time_s'] == 1.0


@pytest.mark.parametrize(('steps', 'name'), [(0, 'network'), (3, 'network+chgnet')])
def test_a_second_opinion_that_took_steps_is_a_pre_relaxer(steps, name):
    report = REPORT | {'second_opinion': {'potential': 'chgnet', 'steps': steps}}
    assert network_facts(report, 'a')['pre_relaxer'] == str(PreRelaxer.of_report(report)) == name


@pytest.mark.parametrize(
    ('device', 'core_time'),
    [({'used': 'cpu', 'threads': 4}, 24.0), ({'used': 'cuda:0', 'threads': 4}, 6.0), ({'used': 'cpu'}, None)],
)
def test_a_second_of_a_run_on_the_cpu_is_one_of_each_thread(device, core_time):
    facts = network_facts(REPORT | {'device': device}, 'a')
    assert (facts['wall_time_s'], facts['core_time_s']) == (6.0, core_time)


@pytest.mark.parametrize(('key', 'steps'), [('potential', 9), ('second_opinion', 9), ('second_opinion', 0)])
def test_a_potential_that_failed_after_the_network_is_told(key, steps):
    row = REPORT['structures'][0] | {key: {'error': 'no atoms near H 3.', 'wall_time_s': 0.1}}
    report = REPORT | {key: {'potential': 'chgnet', 'steps': steps}, 'structures': [row]}
    facts = network_facts(report)
    if not steps:
        assert find_relaxation(facts) is None
        assert find_remarks(facts) == []
        return
    assert find_relaxation(facts)['error'] == 'no atoms near H 3.'
    assert find_remarks(facts) == [
        'chgnet could not relax the crystal, and its prediction is that of the network alone: no atoms near H 3'
    ]
    assert find_remarks(facts | {'content_hash': None}) == [], 'without a network there is no prediction'
    assert find_remarks(network_facts(REPORT, 'a')) == []


def test_a_structure_that_was_alone_needs_no_label():
    assert network_facts(ALONE) == network_facts(ALONE, 'a')
    assert network_facts(ALONE)['wall_time_s'] == 8.0


def test_one_of_several_needs_its_label():
    with pytest.raises(ValueError, match='expected a label, or the report of a run of one structure, found one of 2'):
        stated_uncertainty(REPORT)
    with pytest.raises(ValueError, match='none labelled `c`'):
        stated_uncertainty(REPORT, 'c')
