"""A campaign as a table, against the nodes of its graph."""

from __future__ import annotations

import numpy as np
import pytest
from aiida import orm

from aiida_e3relax.campaign.group import load_campaign
from aiida_e3relax.campaign.results.outcomes import find_outcomes
from aiida_e3relax.campaign.results.records import read_chains
from aiida_e3relax.campaign.results.table import COLUMNS, LEG_FACTS, LEG_NUMBERS, NUMBERS, campaign_frame
from aiida_e3relax.campaign.settings import CampaignSettings
from aiida_e3relax.workflows.comparison.ledger import compare_legs
from benchmarks.synthetic_campaign import fill_campaign
from tests.workflows.comparison.test_ledger import PREDICTED, RAW

FATES = [
    'compared',
    'rejected',
    'network failed',
    'predicted failed',
    'raw failed',
    'both failed',
    'excepted',
]
UNFINISHED = ['running', 'waiting']


@pytest.fixture
def filled(aiida_profile_clean, model) -> str:
    """The name of a campaign in which everything happened."""
    fill_campaign('everything', [*FATES, *UNFINISHED], model, stand_in='emt')
    return 'everything'


def test_each_structure_has_a_row_whatever_became_of_it(filled):
    frame = campaign_frame(filled)
    assert tuple(frame.columns) == COLUMNS
    assert frame.index.tolist() == [f'crystal-{number:04d}' for number in range(9)]
    assert frame['state'].tolist() == 5 * ['finished'] + ['failed', 'excepted', 'running', 'waiting']
    outcomes = ['compared', 'rejected', 'no prediction', *FATES[3:], *UNFINISHED]
    assert find_outcomes(frame).tolist() == outcomes
    assert frame['attempts'].tolist() == 8 * [1] + [0]
    assert frame['in_sample'].all()
    last = frame.iloc[-1]
    assert (last['chain_uuid'], last['verdict'], last['raw_finished']) == (None, None, None)
    assert np.isnan(last['raw_ionic_steps'])
    raw = orm.load_node(last['structure_uuid'])
    assert last['elements'] == sorted(raw.get_symbols_set())
    assert (last['formula'], last['n_atoms']) == (raw.get_pymatgen().composition.reduced_formula, len(raw.sites))


def test_a_row_holds_what_the_comparison_holds(filled):
    row = campaign_frame(filled).iloc[0]
    chain = orm.load_node(row['chain_uuid'])
    comparison = chain.outputs.comparison.get_dict()
    assert chain.pk == row['chain_pk']
    assert row['model'] == comparison['network']['content_hash']
    for key in ('same_minimum', 'ionic_steps_saved', 'energy_difference_final_meV_per_atom'):
        assert row[key] == comparison[key]
    for leg in ('raw', 'predicted'):
        assert all(row[f'{leg}_{key}'] == comparison[leg][key] for key in (*LEG_FACTS, *LEG_NUMBERS))


def test_the_columns_are_the_keys_of_the_ledger():
    comparison = compare_legs(RAW, PREDICTED)
    assert set(comparison['raw']) == {*LEG_FACTS, *LEG_NUMBERS}
    savings = {key for key in comparison if key.endswith(('_saved', '_saved_s', '_percent', '_per_atom'))}
    assert savings <= set(NUMBERS)


def test_the_newest_chain_of_a_structure_counts(filled):
    before = campaign_frame(filled)
    first = orm.load_node(before.iloc[6]['chain_uuid'])
    again = orm.WorkChainNode(label=first.label)
    again.base.attributes.set_many({'process_label': first.process_label, 'process_state': 'running'})
    for link in first.base.links.get_incoming().all():
        again.base.links.add_incoming(link.node, link.link_type, link.link_label)
    again.store()
    after = campaign_frame(filled)
    assert (before.iloc[6]['state'], after.iloc[6]['state']) == ('excepted', 'running')
    assert (after.iloc[6]['attempts'], after.iloc[6]['chain_uuid']) == (2, again.uuid)
    assert len(read_chains()) == 9


def test_an_arm_has_in_its_sample_what_its_base_had_a_raw_leg_for(aiida_profile_clean, model, monkeypatch):
    fill_campaign('base', ['compared'] * 4, model, share=0.5)
    uuid = load_campaign('base').settings_node.uuid
    fill_campaign('arm', ['compared', 'rejected', 'rejected', 'waiting'], model, share=0.5, raw_legs_of=uuid)
    drawn = campaign_frame('arm')['in_sample'].tolist()
    assert sum(drawn) == 2
    # As where all are in the sample, and some raw legs failed in the base: those chains went on with `never`.
    monkeypatch.setattr(CampaignSettings, 'has_raw_leg', lambda *_: True)
    assert campaign_frame('base')['in_sample'].all()
    arm = campaign_frame('arm')
    assert arm['in_sample'].tolist() == [*drawn[:3], True]


def test_a_campaign_that_is_not_there_is_refused_with_those_that_are(filled):
    with pytest.raises(ValueError, match='campaign `nothing`: not in this profile; campaigns here: everything'):
        campaign_frame('nothing')
