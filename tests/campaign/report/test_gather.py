"""What a report takes from the graph, against its nodes."""

from __future__ import annotations

import numpy as np
import pytest
from aiida import orm

from aiida_e3relax.campaign.report.files import write_report
from aiida_e3relax.campaign.report.gather import gather_contents
from benchmarks.synthetic_campaign import FATES, fill_campaign


@pytest.fixture
def campaign(aiida_profile_clean, model) -> str:
    """The name of a campaign in which everything happened."""
    fill_campaign('everything', [*FATES, 'waiting'], model, stand_in='emt')
    return 'everything'


def test_crystals_are_those_of_the_nodes(campaign: str):
    fill_campaign('another', ['compared'], orm.load_node(gather_contents(campaign).settings['model']), seed=1)
    contents = gather_contents(campaign)
    labels = list(contents.frame.index)
    stages = {stage: crystals.labels.tolist() for stage, crystals in contents.structures.items()}
    assert stages['raw'] == labels
    chains = contents.frame['chain_uuid'].dropna()
    for stage, output in (('predicted', 'predicted_structure'), ('relaxed', 'structure')):
        nodes = {label: orm.load_node(uuid).outputs for label, uuid in chains.items()}
        assert sorted(stages[stage]) == [label for label in labels if label in nodes and output in nodes[label]]
        crystals = contents.structures[stage]
        for place, label in enumerate(crystals.labels):
            atoms = slice(*crystals.offsets[place : place + 2])
            expected = nodes[label][output].get_ase()
            np.testing.assert_array_equal(crystals.positions[atoms], expected.positions)
            np.testing.assert_array_equal(crystals.cell[place], expected.cell)


def test_a_campaign_that_does_not_exist_is_named(aiida_profile_clean, tmp_path):
    with pytest.raises(ValueError, match='campaign `nobody`'):
        write_report('nobody', tmp_path / 'nobody')
    assert not (tmp_path / 'nobody').exists()
