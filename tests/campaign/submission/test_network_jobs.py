"""Batches that the network is given side by side: how many, beside which chains, after a kill. Nothing runs here."""

from __future__ import annotations

import pytest
from aiida import orm
from aiida.manage import get_manager
from ase.build import bulk

from aiida_e3relax.campaign.creation import create_arm, create_campaign
from aiida_e3relax.campaign.group import CampaignGroup
from aiida_e3relax.campaign.settings import CampaignSettings, read_content
from aiida_e3relax.campaign.submission import daemon
from aiida_e3relax.campaign.submission.controller import CampaignController
from aiida_e3relax.campaign.submission.daemon import find_room
from aiida_e3relax.workflows.vasp.choices import ChainChoices
from tests.campaign.submission.test_arms import build_little, end, store_process


@pytest.fixture(autouse=True)
def _fakes(monkeypatch):
    """Let what is submitted be stored and never run, and chains have few inputs."""
    monkeypatch.setattr(daemon.Daemon, 'count_workers', lambda _: 1)
    monkeypatch.setattr(daemon, 'submit', store_process)
    monkeypatch.setattr(ChainChoices, 'chain_builder', build_little)


@pytest.fixture
def choices(standin_code, e3relax_code, potential_family, model) -> ChainChoices:
    """The network in front of the stand-in."""
    return ChainChoices(standin_code, e3relax_code, potential_family, 'positions', model, protocol='fast')


@pytest.fixture
def make(choices, tmp_path):
    """A function that makes a campaign of ten structures, two in a batch."""

    def create(**arguments: int) -> CampaignGroup:
        structures = {f's{n}': orm.StructureData(ase=bulk('Cu', a=3.5 + n / 50)) for n in range(10)}
        return create_campaign(tmp_path.name, structures, choices, batch_size=2, reference_share=1.0, **arguments)

    return create


def advance(group: CampaignGroup, limit: int = 50) -> int:
    """Submit with a new controller, as after a kill."""
    return CampaignController(group).advance(limit)


def running(group: CampaignGroup) -> tuple[list[str], int]:
    """Return the batches that the network runs on, and how many chains run."""
    processes = CampaignController(group).look().processes
    return [process.label for process in processes.running_networks], len(processes.running_chains)


def finish(group: CampaignGroup, label: str, exit_status: int = 0) -> None:
    """Let the process of that label that runs end."""
    (process,) = (one for one in CampaignController(group).look().processes.running if one.label == label)
    end(orm.load_node(process.pk), exit_status)


def test_one_batch_at_a_time_unless_more_are_asked_for(make):
    group = make()
    assert advance(group) == 1
    assert advance(group) == 0
    assert running(group) == (['batch_0'], 0)


def test_as_many_batches_as_were_asked_for(make):
    group = make(network_jobs=3)
    assert advance(group, limit=2) == 2
    assert advance(group) == 1
    assert advance(group) == 0
    assert running(group) == (['batch_0', 'batch_1', 'batch_2'], 0)
    finish(group, 'batch_1')
    assert advance(group) == 3
    assert running(group) == (['batch_0', 'batch_2', 'batch_3'], 2)
    finish(group, 'batch_0', 330)
    assert advance(group) == 1  # the same one again
    assert running(group) == (['batch_0', 'batch_2', 'batch_3'], 2)
    for label in ('batch_0', 'batch_2', 'batch_3'):
        finish(group, label)
    assert advance(group) == 7
    assert running(group) == (['batch_4'], 8)


def test_another_number_holds_from_then_on(make):
    group = make(network_jobs=2)
    assert advance(group) == 2
    group.network_jobs = 3
    assert advance(group) == 1
    group.network_jobs = 1
    finish(group, 'batch_0')
    advance(group)
    assert running(group) == (['batch_1', 'batch_2'], 2)
    assert group.settings.network_jobs == 2


def test_jobs_of_the_network_take_no_place_of_chains(make):
    group = make(network_jobs=2, max_running=2)
    advance(group)
    finish(group, 'batch_0')
    finish(group, 'batch_1')
    assert advance(group) == 4
    assert running(group) == (['batch_2', 'batch_3'], 2)


def test_nobody_submits_more_than_the_workers_can_hold(make, monkeypatch):
    usual = get_manager().get_option
    slots = {'daemon.worker_process_slots': 10}
    monkeypatch.setattr(get_manager(), 'get_option', lambda name: slots[name] if name in slots else usual(name))
    group = make(network_jobs=9, max_running=9)
    advance(group)
    assert running(group) == ([f'batch_{place}' for place in range(5)], 0)
    for place in range(3):
        finish(group, f'batch_{place}')
    assert advance(group) == 0  # 6 slots are left, a chain takes 7
    finish(group, 'batch_3')
    assert advance(group) == 1
    assert running(group) == (['batch_4'], 1)


@pytest.mark.parametrize(
    ('workers', 'most', 'running_now', 'each', 'taken', 'expected'),
    [(1, 5, 0, 7, 0, 5), (1, 50, 3, 7, 0, 25), (1, 50, 3, 7, 60, 17), (1, 5, 0, 300, 0, 1), (1, 5, 0, 300, 2, 0)],
)
def test_room(aiida_profile, workers, most, running_now, each, taken, expected):
    assert get_manager().get_option('daemon.worker_process_slots') == 200
    assert find_room(workers, most, running_now, each, taken) == expected


def test_a_paused_campaign_submits_none(make):
    group = make(network_jobs=3)
    group.is_paused = True
    assert advance(group) == 0


def test_settings_hold_the_number_and_older_ones_mean_one(make, choices):
    group = make(network_jobs=4)
    content = read_content(group.settings_node) | {'schema': 1}
    assert content.pop('network_jobs') == 4
    assert CampaignSettings.from_node(orm.Dict(content)).network_jobs == 1
    assert create_arm(f'{group.label} same', group, choices).settings.network_jobs == 4
    assert create_arm(f'{group.label} other', group, choices, network_jobs=2).settings.network_jobs == 2
    group.network_jobs = 3
    assert create_arm(f'{group.label} later', group, choices).settings.network_jobs == 3
    with pytest.raises(ValueError, match='jobs of the network: expected at least 1, found 0'):
        create_campaign('none', {'a': orm.StructureData(ase=bulk('Cu'))}, choices, network_jobs=0)
