"""Controllers and daemon workers killed in the middle of a campaign: nothing is lost, and nothing is done twice."""

from __future__ import annotations

import dataclasses
import datetime
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable

import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.manage import get_manager
from plumpy.process_states import ProcessState

from aiida_e3relax.campaign.creation import create_campaign
from aiida_e3relax.campaign.group import CampaignGroup
from aiida_e3relax.campaign.submission import orphans
from aiida_e3relax.campaign.submission.controller import CampaignController
from aiida_e3relax.campaign.submission.due import Look
from aiida_e3relax.campaign.submission.processes import CampaignProcesses, State
from aiida_e3relax.workflows.vasp.choices import ChainChoices
from tests.workflows.crystals import copper_gold

PATIENCE = 90  # s
CONTROLLER = """
import os, signal, sys, time
from aiida import load_profile
load_profile(sys.argv[1])
from aiida.engine.persistence import AiiDAPersister
from aiida.orm import ProcessNode
from plumpy.process_comms import RemoteProcessThreadController
from aiida_e3relax.campaign.submission.controller import CampaignController
from aiida_e3relax.campaign.group import load_campaign
from aiida_e3relax.campaign.submission.lock import lock

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[3] == 'stored':
    ProcessNode.set_process_state = lambda node, state: node.is_stored and die()
elif sys.argv[3] == 'without checkpoint':
    AiiDAPersister.save_checkpoint = die
elif sys.argv[3] == 'not sent':
    RemoteProcessThreadController.continue_process = die
controller = CampaignController(load_campaign(sys.argv[2]))
with lock(controller.group) as confirm_lock:
    while True:
        controller.advance(1, confirm_lock)
        time.sleep(0.2)
"""


def run_until(group: CampaignGroup, is_done: Callable[[Look], bool] = lambda look: look.is_done) -> CampaignProcesses:
    controller = CampaignController(group)
    end = time.monotonic() + PATIENCE
    while not is_done(look := controller.look()):
        assert time.monotonic() < end, look
        controller.advance(5)
        time.sleep(0.2)
    return look.processes


@pytest.fixture
def choices(e3relax_code, model, make_scripted_code, potential_family, tmp_path) -> ChainChoices:
    """A relaxation at a fixed cell, one job a leg, that writes a line into `tmp_path / 'started'` for each start."""
    lines = f'echo $PWD >> {tmp_path}/started; sleep 2'
    return ChainChoices(
        vasp_code=make_scripted_code(lines, 'e3relax-vasp-standin', 'vasp.vasp'),
        network_code=make_scripted_code(lines, 'e3relax', 'e3relax.predict'),
        potential_family=potential_family,
        freedom='positions',
        model=model,
        protocol='fast',
    )


def make_crystals(n_crystals: int) -> dict[str, orm.StructureData]:
    crystals = {}
    for place in range(n_crystals):
        atoms = copper_gold()
        atoms.rattle(0.05, seed=place)
        crystals[f'crystal_{place}'] = orm.StructureData(ase=atoms)
    return crystals


@pytest.fixture
def start_controller(aiida_profile, tmp_path) -> Callable[..., subprocess.Popen]:
    def start(group: CampaignGroup, death: str) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, '-c', CONTROLLER, aiida_profile.name, group.label, death])

    return start


def _wait_no_longer(monkeypatch) -> None:
    for name in ('GRACE', 'GRACE_OF_TAKEN'):
        monkeypatch.setattr(orphans, name, datetime.timedelta(0))


@pytest.mark.daemon
@pytest.mark.parametrize(
    'death',
    [
        pytest.param('stored', marks=pytest.mark.slow),
        pytest.param('without checkpoint', marks=pytest.mark.slow),
        'not sent',
    ],
)
def test_a_submission_cut_short_is_mended(choices, start_controller, started_daemon_client, monkeypatch, death):
    _wait_no_longer(monkeypatch)
    group = create_campaign(f'cut short: {death}', make_crystals(1), choices, reference_share=0.0)
    assert start_controller(group, death).wait(PATIENCE) == -signal.SIGKILL
    (network,) = CampaignController(group).look().processes.networks[0]
    assert network.process_state == (None if death == 'stored' else 'created')
    processes = run_until(group, lambda look: look.processes.network_state(0) == State.FINISHED)
    (after,) = processes.networks[0]
    assert (after.pk == network.pk) == (death == 'not sent')


def test_what_ended_or_began_meanwhile_is_not_lost(choices, started_daemon_client, monkeypatch):
    _wait_no_longer(monkeypatch)
    group = create_campaign('slow look', make_crystals(3), choices, network_retries=0)
    chains = []
    for label in group.settings.structures:
        chain = orm.WorkChainNode(label=label)
        chain.set_process_label('E3RelaxVaspWorkChain')
        chain.base.links.add_incoming(group.settings_node, LinkType.INPUT_WORK, 'campaign')
        chain.store().set_process_state(ProcessState.CREATED)
        chains.append(chain)
    seen = CampaignController(group).look().processes.running
    # Neither has a checkpoint: the first has finished since, and AiiDA has deleted it; a job of the third is there.
    chains[0].set_process_state(ProcessState.FINISHED)
    job = orm.CalcJobNode()
    job.base.links.add_incoming(chains[2], LinkType.CALL_CALC, 'job')
    job.store()
    pks = [chain.pk for chain in chains]
    assert orphans.repair_orphans(seen)
    left = orm.QueryBuilder().append(orm.WorkChainNode, filters={'id': {'in': pks}}, project='label')
    assert set(left.all(flat=True)) == {'crystal_0', 'crystal_2'}


@pytest.mark.daemon
def test_chains_name_the_run_of_the_network_that_was_killed(choices, started_daemon_client):
    group = create_campaign('network killed', make_crystals(1), choices, network_retries=0)
    group.raw_on_network_failure = True
    network = orm.WorkChainNode(label='batch_0')
    network.set_process_label('E3RelaxBaseWorkChain')
    network.base.links.add_incoming(group.settings_node, LinkType.INPUT_WORK, 'campaign')
    network.store().set_process_state(ProcessState.KILLED)
    (chain,) = run_until(group).chains['crystal_0']
    assert chain.state == State.FINISHED
    remark = f'The run of the pre-relaxer for the batch was killed (<{network.pk}>)'
    assert orm.load_node(chain.pk).outputs.comparison['remarks'] == [remark]


@pytest.mark.daemon
@pytest.mark.slow
def test_killing_controller_and_workers_loses_and_repeats_nothing(
    choices, start_controller, started_daemon_client, tmp_path
):
    group = create_campaign('killed', make_crystals(2), choices, reference_share=1.0, batch_size=2, max_running=2)
    controller = CampaignController(group)
    for running in ('networks', 'chains'):
        process = start_controller(group, 'later')
        end = time.monotonic() + PATIENCE
        while not any(tries[-1:] for tries in getattr(controller.look().processes, running).values()):
            assert time.monotonic() < end, controller.look().processes
            time.sleep(0.1)
        process.kill()
        process.wait()
        for pid in started_daemon_client.get_worker_info()['info']:
            os.kill(int(pid), signal.SIGKILL)
    processes = run_until(group)
    tries = [*processes.networks.values(), *processes.chains.values()]
    assert [[process.state for process in each] for each in tries] == [[State.FINISHED]] * 3
    started = Counter((tmp_path / 'started').read_text().split())
    assert len(started) == 1 + 2 * 2
    assert set(started.values()) == {1}


@pytest.mark.parametrize(
    ('tells_what_is_taken', 'minutes', 'is_late'), [(True, 1, True), (False, 1, False), (False, 16, True)]
)
def test_what_a_busy_worker_may_have_is_not_sent_again(choices, monkeypatch, tells_what_is_taken, minutes, is_late):
    group = create_campaign(f'busy {tells_what_is_taken} {minutes}', make_crystals(1), choices)
    chain = orm.WorkChainNode(label=next(iter(group.settings.structures)))
    chain.set_process_label('E3RelaxVaspWorkChain')
    chain.base.links.add_incoming(group.settings_node, LinkType.INPUT_WORK, 'campaign')
    chain.store().set_process_state(ProcessState.CREATED)
    (process,) = CampaignController(group).look().processes.running
    process = dataclasses.replace(process, changed=process.changed - datetime.timedelta(minutes=minutes))
    asked: list[int] = []
    if not tells_what_is_taken:
        monkeypatch.setattr(get_manager(), 'get_broker', object)
    monkeypatch.setattr(get_manager(), 'get_process_controller', object)
    monkeypatch.setattr(orphans, '_known_to_broker', lambda pks, *_: asked.extend(pks) or pks)
    assert not orphans.repair_orphans([process])
    assert asked == [chain.pk] * is_late
