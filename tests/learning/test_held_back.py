"""What is not learnt from while a judge has not ended."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiida import orm
from ase import Atoms
from ase.build import bulk

from aiida_e3relax.data.batch import StructureBatchData
from aiida_e3relax.learning import held_back, relaxations
from aiida_e3relax.learning.held_back import SAME_COMPOSITION, SAME_START, find_held_back, find_judged_systems

STRUCTURES = ('zincblende', 'rocksalt', 'cesiumchloride')


def store(raw: dict[str, Atoms]) -> list[str]:
    """Return the UUIDs of two nodes with these crystals."""
    nodes = {label: orm.StructureData(ase=atoms) for label, atoms in raw.items()}
    labels = list(nodes)
    return [
        StructureBatchData({label: nodes[label] for label in part}).store().uuid for part in (labels[:3], labels[3:])
    ]


def ended(crystals: dict[str, Atoms]) -> dict[str, Any]:
    """Return relaxations that ended in these crystals."""
    return {label: SimpleNamespace(end=orm.StructureData(ase=atoms).store().uuid) for label, atoms in crystals.items()}


@pytest.fixture
def raw(aiida_profile) -> dict[str, Atoms]:
    """Three crystals of GaAs, one of them in a doubled cell, and five of other compositions."""
    crystals = {name: bulk('GaAs', name, a=4.0 + place) for place, name in enumerate(STRUCTURES)}
    crystals['rocksalt'] = crystals['rocksalt'].repeat((1, 1, 2))
    return crystals | {formula: bulk(formula, 'zincblende', a=5.5) for formula in ('InP', 'AlN', 'GaP', 'InAs', 'AlP')}


def test_the_composition_of_a_judge_is_learnt_from_once_it_has_ended(raw):
    batches, judges = store(raw), {'zincblende', 'InP'}
    finished = ended({label: raw[label] for label in ('rocksalt', 'cesiumchloride', 'AlN', 'InAs')})
    held = {'rocksalt', 'cesiumchloride'}
    assert find_held_back(batches, judges, judges, finished) == (held, SAME_COMPOSITION)
    assert find_held_back(batches, judges, {'zincblende'}, ended({'rocksalt': raw['rocksalt']})) == (
        {'rocksalt'},
        SAME_COMPOSITION,
    )
    assert find_held_back(batches, judges, {'InP'}, finished)[0] == set()
    assert find_held_back(batches, judges, set(), finished)[0] == set()


def test_systems_of_all_judges_are_told(raw):
    assert find_judged_systems(store(raw), {'zincblende', 'rocksalt', 'InP'}) == ['As-Ga', 'In-P']


def test_crystals_are_compared_where_compositions_would_hold_back_most(raw):
    """Of five crystals of GaAs one judges: what starts as it does, or has ended there, is held back."""
    again = raw['zincblende'].repeat((1, 2, 1))
    several = {name: raw[name] for name in STRUCTURES} | {'again': again, 'other': bulk('GaAs', 'zincblende', a=5.0)}
    batches, judges = store(several), {'zincblende'}
    same, other = raw['zincblende'], raw['cesiumchloride']
    finished = ended({'rocksalt': same, 'cesiumchloride': other, 'again': other, 'other': other})
    assert find_held_back(batches, judges, {'zincblende'}, finished) == ({'rocksalt', 'again'}, SAME_START)
    assert find_held_back(batches, judges, {'zincblende'}, {}) == (set(), SAME_START), 'none has ended'


def test_ends_are_read_in_as_many_queries_as_they_need(raw, monkeypatch):
    monkeypatch.setattr(relaxations, 'AT_ONCE', 2)
    named, append = [], orm.QueryBuilder.append

    def count(query, *arguments, **options):
        named.append(len(options['filters']['uuid']['in']))
        return append(query, *arguments, **options)

    same = raw['zincblende']
    names = [f'c{place}' for place in range(5)]
    others = {name: bulk('GaAs', 'rocksalt', a=6.0 + 0.1 * place) for place, name in enumerate(names)}
    batches, finished = store({'judge': same, **others}), ended(dict.fromkeys(names, same))
    crystals = held_back._read_structures(batches)
    monkeypatch.setattr(held_back, '_read_structures', lambda _: crystals)
    monkeypatch.setattr(orm.QueryBuilder, 'append', count)
    assert find_held_back(batches, {'judge'}, {'judge'}, finished) == (set(names), SAME_START)
    assert named == [2, 2, 1]
