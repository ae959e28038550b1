"""Campaigns as arms: what they are called, and what of them cannot be compared."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from aiida import orm
from ase.build import bulk

from aiida_e3relax.campaign.arms import find_other_settings
from aiida_e3relax.campaign.results.arm_frames import _check_structures, _iterate_notes, _name_arms


def make_group(label: str, fixed: dict[str, Any] | None = None, **chain: Any) -> SimpleNamespace:
    """Return what is read of a campaign of two structures."""
    settings = {'chain': {'model': 'x', **chain}, 'structures': {'a': 'A', 'b': 'B'}, 'fixed': fixed or {}}
    return SimpleNamespace(label=label, settings=SimpleNamespace(**settings))


def name_all(*groups: SimpleNamespace) -> dict[str, str]:
    return {name: group.label for name, group in _name_arms(list(groups)).items()}


def test_no_arm_is_lost_for_its_name():
    network, chgnet = make_group('one', pre_relaxer='network'), make_group('two', pre_relaxer='chgnet')
    assert name_all(network, chgnet) == {'network': 'one', 'chgnet': 'two'}
    again = make_group('network', pre_relaxer='chgnet')
    assert name_all(network, chgnet, again) == {'one': 'one', 'two': 'two', 'network': 'network'}


def test_what_vasp_relaxes_otherwise():
    base = {'freedom': 'cell', 'options': {'queue': 'a'}, 'overrides': {'guard': {}, 'network': {'clean': True}}}
    same = {'freedom': 'cell', 'options': {'queue': 'b'}, 'overrides': {'guard': {}}}
    assert find_other_settings(base, same) == []
    assert find_other_settings(base, same | {'overrides': {'vasp': {}}}) == ['overrides']
    assert find_other_settings({'overrides': None}, {'overrides': {}}) == []


def test_sites_that_one_campaign_holds_are_told():
    frame = pd.DataFrame({'structure_uuid': ['A', 'B'], 'state': ['finished'] * 2}, index=['a', 'b'])
    arms = {name: make_group(name, {'a': {'abc': [0]}}, freedom='cell') for name in ('one', 'two')}
    assert list(_iterate_notes(arms, dict.fromkeys(arms, frame))) == []
    arms['two'] = make_group('two', {'a': {'abc': [1]}}, freedom='cell')
    (note,) = _iterate_notes(arms, dict.fromkeys(arms, frame))
    assert note.startswith('two was relaxed with another `fixed` than one')


def test_a_label_is_one_crystal_in_all_campaigns(aiida_profile):
    copper, same, gold = (orm.StructureData(ase=bulk(symbol)).store().uuid for symbol in ('Cu', 'Cu', 'Au'))
    frames = {
        name: pd.DataFrame({'structure_uuid': list(uuids.values())}, index=list(uuids))
        for name, uuids in {'one': {'a': copper}, 'two': {'a': same, 'b': copper}, 'three': {'b': gold}}.items()
    }
    _check_structures({name: frames[name] for name in ('one', 'two')})
    with pytest.raises(ValueError, match='campaigns `two` and `three`: expected one crystal under the label `b`'):
        _check_structures(frames)
