"""Campaigns as arms: what they are called, and what of them cannot be compared."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from aiida import orm
from ase.build import bulk

from aiida_e3relax.campaign.arms import find_other_settings
from aiida_e3relax.campaign.results.arm_frames import (
    Parts,
    _check_structures,
    _iterate_notes,
    _join_arms,
    _join_frames,
    _name_arms,
)
from aiida_e3relax.campaign.settings import CampaignSettings


def make_settings(labels: str = 'ab', **values: Any) -> CampaignSettings:
    """Return the settings of a campaign, `values` in the place of theirs; of `chain` beside its own."""
    chain = {'model': None, 'network_code': 'x', **values.pop('chain', {})}
    structures = {label: label.upper() for label in labels}
    empty = {'name': '', 'created': '', 'fixed': {}, 'left_out': {}, 'batches': [], 'batch_size': 1, 'guard': {}}
    sample = {'reference_share': 1.0, 'reference_sample': 'all', 'seed': 0, 'versions': {}}
    return CampaignSettings(**{**empty, **sample, **values, 'structures': structures, 'chain': chain})


def name_all(**pre_relaxers: str) -> dict[str, str]:
    arms = [{label: make_settings(chain={'pre_relaxer': text})} for label, text in pre_relaxers.items()]
    return {name: next(iter(parts)) for name, parts in _name_arms(arms).items()}


def test_no_arm_is_lost_for_its_name():
    assert name_all(one='network', two='chgnet') == {'network': 'one', 'chgnet': 'two'}
    assert name_all(one='network', two='chgnet', network='chgnet') == {'one': 'one', 'two': 'two', 'network': 'network'}


def test_what_vasp_relaxes_otherwise():
    base = {'freedom': 'cell', 'options': {'queue': 'a'}, 'overrides': {'guard': {}, 'network': {'clean': True}}}
    same = {'freedom': 'cell', 'options': {'queue': 'b'}, 'overrides': {'guard': {}}}
    assert find_other_settings(base, same) == []
    assert find_other_settings(base, same | {'overrides': {'vasp': {}}}) == ['overrides']
    assert find_other_settings({'overrides': None}, {'overrides': {}}) == []
    assert find_other_settings(base, same | {'overrides': {'guard': {}, 'predicted_algo': 'rd'}}) == []


def list_notes(**arms: Parts) -> list[str]:
    """Return the notes on the settings of arms."""
    return list(_iterate_notes(arms))


def test_what_makes_arms_hard_to_compare_is_told():
    first = {'one': make_settings(fixed={'a': {'abc': [0]}}, versions={'ase': '3.28', 'numpy': '2.4'})}
    assert list_notes(one=first, two=first) == []
    (note,) = list_notes(one=first, two={'two': make_settings(fixed={'a': {'abc': [1]}})})
    assert note.startswith('two was relaxed with another `fixed` than one')
    told = {'chain': {'options': {'resources': {'num_machines': 2}}}, 'versions': {'ase': '3.29', 'numpy': '2.4'}}
    notes = list_notes(one=first, two={'two': make_settings(fixed=first['one'].fixed, **told)})
    assert notes == [
        'two gave the jobs of VASP another `resources` than one: times and core times of the two were not measured '
        'alike.',
        'two was made with other versions than one: ase 3.29 for 3.28.',
    ]


def test_other_surroundings_of_jobs_are_told_as_settings_are():
    options = {'prepend_text': 'module load vasp/6.5', 'queue_name': 'long'}
    notes = list_notes(one={'one': make_settings()}, two={'two': make_settings(chain={'options': options})})
    assert notes == [
        'two gave the jobs of VASP another `prepend_text` than one: steps and energies may differ by that.',
        'two gave the jobs of VASP another `queue_name` than one: times and core times of the two were not measured '
        'alike.',
    ]


def test_raw_legs_of_another_campaign_are_told_once():
    arms = {name: {name: make_settings(raw_legs_of='uuid')} for name in ('two', 'three')}
    (note,) = list_notes(one={'one': make_settings()}, **arms)
    assert note.startswith('The raw crystals were relaxed before the arms two, three: the times')


def test_an_arm_is_named_by_its_algorithm():
    chain = {'pre_relaxer': 'chgnet'}
    plain, other = make_settings(chain=chain), make_settings(chain=chain | {'overrides': {'predicted_algo': 'rd'}})
    assert list(_name_arms([{'a': other}])) == ['chgnet (rd)']
    assert _name_arms([{'a': plain}, {'b': other}]) == {'chgnet': {'a': plain}, 'chgnet (rd)': {'b': other}}


def test_arms_that_differ_in_how_far_a_potential_goes_are_named_by_their_campaigns():
    chain = {'pre_relaxer': 'chgnet'}
    overrides = {'network': {'predict': {'parameters': {'steps': 500}}}}
    arms = [{'loose': make_settings(chain=chain)}, {'tight': make_settings(chain=chain | {'overrides': overrides})}]
    assert list(_name_arms([*arms, {'x': make_settings()}])) == ['loose', 'tight', 'network']


def test_settings_are_compared_where_parts_share_crystals():
    def part(labels: str, cutoff: int) -> CampaignSettings:
        return make_settings(labels, chain={'overrides': {'vasp': cutoff}})

    joined = {'soft': part('ab', 300), 'hard': part('cd', 500)}
    alike = {'soft-2': part('ab', 300), 'hard-2': part('cd', 500)}
    assert list_notes(network=joined, chgnet=alike) == []
    other = {'soft-3': part('ab', 300), 'hard-3': part('c', 800)}
    (note,) = list_notes(network=joined, chgnet=alike, mace=other)
    assert note.startswith('hard-3 was relaxed with another `overrides` than hard: ')
    (note,) = list_notes(network=joined, whole={'all': part('abcd', 500)})
    assert note.startswith('whole was relaxed with another `overrides` than soft: ')


def join(*parts: dict[str, CampaignSettings]) -> list[list[str]]:
    arms, left_out = _join_arms('A,B', list(parts))
    assert left_out == []
    return [list(arm) for arm in arms]


def test_arms_of_parts_are_joined_by_their_pre_relaxer():
    network, chgnet = ({'pre_relaxer': text} for text in ('network', 'chgnet'))
    soft = {'soft': make_settings(chain=network), 'soft-c': make_settings(chain=chgnet)}
    hard = {'hard-c': make_settings('cd', chain=chgnet), 'hard': make_settings('cd', chain=network)}
    assert join(soft, hard) == [['soft', 'hard'], ['soft-c', 'hard-c']]
    message = 'A,B: expected in each part an arm by the same pre-relaxer, .*, found none like `soft` beside it'
    with pytest.raises(ValueError, match=message):
        join({'soft': soft['soft']}, {'hard-c': hard['hard-c']})
    overrides = {'network': {'predict': {'parameters': {'steps': 5}}}}
    with pytest.raises(ValueError, match='found none like `soft` beside it'):
        join({'soft': soft['soft']}, {'hard': make_settings('cd', chain=network | {'overrides': overrides})})
    with pytest.raises(ValueError, match='found none like `soft` beside it'):
        join({}, soft)
    twice = soft | {'again': soft['soft']}
    with pytest.raises(ValueError, match='`soft` and `again` are by the same pre-relaxer'):
        join(twice, hard)
    with pytest.raises(ValueError, match='expected other campaigns in each part, found `soft-c` in two'):
        join(soft, {'soft-c': soft['soft-c']})
    assert join({}, {}) == []


def test_six_arms_of_two_campaigns_are_joined_and_one_without_its_like_is_named():
    starts = ['network', 'chgnet', 'sevennet-mf-0', 'network+sevennet-mf-0', 'dls-volume']
    chains = {start: {'pre_relaxer': start} for start in starts}
    chains['rd'] = {'pre_relaxer': 'sevennet-mf-0', 'overrides': {'predicted_algo': 'rd'}}
    soft, hard = (
        {f'{base}-{start}': make_settings(labels, chain=chain) for start, chain in chains.items()}
        for base, labels in (('soft', 'ab'), ('hard', 'cd'))
    )
    joined = [[f'soft-{start}', f'hard-{start}'] for start in chains]
    assert join(soft, hard) == joined
    arms, left_out = _join_arms('soft,hard', [soft | {'soft-m': make_settings(chain={'pre_relaxer': 'mace'})}, hard])
    assert [list(arm) for arm in arms] == joined
    assert left_out == [
        'soft-m is in no figure: not each of soft,hard has an arm by the same pre-relaxer, with the same model and '
        'settings.'
    ]
    assert list(_name_arms(arms)) == [*starts, 'sevennet-mf-0 (rd)']


def test_a_crystal_is_in_one_part():
    frames = {
        name: pd.DataFrame({'n_atoms': 2}, index=list(labels)) for name, labels in (('soft', 'ab'), ('hard', 'cd'))
    }
    assert _join_frames(frames).index.tolist() == ['a', 'b', 'c', 'd']
    frames['more'] = pd.DataFrame({'n_atoms': 2}, index=['b'])
    with pytest.raises(ValueError, match=r'campaigns `soft` and `more`: expected other crystals .*, found `b` in both'):
        _join_frames(frames)


def test_a_label_is_one_crystal_in_all_campaigns(aiida_profile):
    copper, same, gold = (orm.StructureData(ase=bulk(symbol)).store().uuid for symbol in ('Cu', 'Cu', 'Au'))
    structures = {'one': {'a': copper}, 'two': {'a': same, 'b': copper}, 'three': {'b': gold}}
    _check_structures({name: structures[name] for name in ('one', 'two')})
    with pytest.raises(ValueError, match='campaigns `two` and `three`: expected one crystal under the label `b`'):
        _check_structures(structures)
