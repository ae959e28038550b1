"""Which structures of a campaign its model has learnt from before it began."""

from __future__ import annotations

import zipfile
from typing import Any

import numpy as np
import pytest
from aiida import orm
from ase.build import bulk

from aiida_e3relax.campaign.creation import create_campaign
from aiida_e3relax.campaign.learnt import find_learnt, note_learnt, warn_of_learnt
from aiida_e3relax.campaign.settings import CampaignSettings
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.data.model import E3RelaxModelData
from aiida_e3relax.data.pairs import E3RelaxPairsData
from aiida_e3relax.data.structures import structures_to_crystals
from aiida_e3relax.gnn.checkpoints.model_card import hash_file
from aiida_e3relax.workflows.vasp.choices import ChainChoices


def make_structures() -> dict[str, orm.StructureData]:
    """Return four crystals of copper, each call as new nodes."""
    return {f's{n}': orm.StructureData(ase=bulk('Cu', a=3.5 + n / 50)) for n in range(4)}


@pytest.fixture
def pairs(aiida_profile) -> E3RelaxPairsData:
    """Pairs of the first three crystals, of which one judges, and of another one."""
    starts = structures_to_crystals({**make_structures(), 's3': orm.StructureData(ase=bulk('Cu', a=3.9))})
    split = np.array(['train', 'test', 'val', 'train'])
    return E3RelaxPairsData.from_pairs(Pairs(starts, starts, split, np.full(4, 'earlier'))).store()


@pytest.fixture
def make_model(model):
    """A function that returns a model with a card of its own, which says more than that of the default."""

    def make(name: str, **told: Any) -> E3RelaxModelData:
        with model.as_path() as path:
            return E3RelaxModelData(path, {**model.card, 'name': name, **told}).store()

    return make


@pytest.fixture
def make(standin_code, e3relax_code, potential_family, tmp_path):
    """A function that makes a campaign of these crystals with a model, and returns its settings."""

    def create(model: E3RelaxModelData) -> CampaignSettings:
        choices = ChainChoices(standin_code, e3relax_code, potential_family, 'positions', model, protocol='fast')
        name = f'{tmp_path.name}-{model.name}'
        return create_campaign(name, make_structures(), choices, batch_size=3, reference_share=1.0).settings

    return create


def test_what_a_model_and_those_before_it_learnt_from_is_found(make, make_model, pairs):
    told = {'pairs': {'divided': {'uuid': pairs.uuid, 'content_hash': pairs.content_hash}}}
    tuned = make_model('tuned', made_of=told)
    again = make_model('again', made_of={'pairs': {}, 'model': {'uuid': tuned.uuid}})
    assert [find_learnt(make(each)) for each in (tuned, again)] == [['s0', 's2'], ['s0', 's2']]
    settings = make(make_model('from-files', made_of={'pairs': {'a': {'content_hash': pairs.content_hash}}}))
    assert warn_of_learnt([settings]).startswith(
        'warning: the model has learnt from 2 structures of these 4 (s0, s2): what it saves on them says little'
    )
    (note,) = note_learnt({'network': [settings]}, ['s1', 's2', 's3'])
    assert note.startswith('network: 1 of the 3 crystals compared (s2) are among those that its model has learnt from')
    assert not list(note_learnt({'network': [settings]}, ['s1', 's3']))


def test_models_are_followed_by_their_hashes_through_files(make, make_model, model, pairs, tmp_path):
    """One that was tuned, or combined, outside the profile names those before it by content hash alone."""
    made_of = {'pairs': {'divided': {'uuid': pairs.uuid}}}
    other = tmp_path / 'other.pt'
    with zipfile.ZipFile(other, 'w'):
        card = {**model.card, 'name': 'other', 'made_of': made_of}
    before = E3RelaxModelData(other, {**card, 'content_hash': hash_file(other)}).store()
    members = {'members': [{'content_hash': before.content_hash}]}
    nested = make_model('nested', training={'tuned_from': {'content_hash': 'sha256:0', 'training': members}})
    assert find_learnt(make(nested)) == ['s0', 's2']


def test_a_model_that_learnt_from_nothing_here_warns_of_nothing(make, model):
    settings = make(model)
    assert find_learnt(settings) == []
    assert warn_of_learnt([settings]) == ''
