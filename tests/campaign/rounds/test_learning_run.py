"""A real campaign that learns: a round in the daemon, submitted by a controller that is killed meanwhile."""

from __future__ import annotations

import datetime
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
import torch
from aiida import orm

from aiida_e3relax.campaign.creation import create_campaign
from aiida_e3relax.campaign.results.learning_records import read_learning
from aiida_e3relax.campaign.results.table import campaign_frame
from aiida_e3relax.campaign.rounds.settings import LearningSettings
from aiida_e3relax.campaign.submission import orphans
from aiida_e3relax.campaign.submission.controller import CampaignController
from aiida_e3relax.data.model import E3RelaxModelData
from aiida_e3relax.gnn.training.run import train
from aiida_e3relax.gnn.training.settings import TrainingSettings
from aiida_e3relax.workflows.vasp.choices import ChainChoices
from tests.campaign.submission.test_kills import make_crystals
from tests.gnn.pairs import made_pairs

PATIENCE = 1200  # s
CONTROLLER = """
import os, signal, sys, time
from aiida import load_profile, orm
load_profile(sys.argv[1])
from plumpy.process_comms import RemoteProcessThreadController
from aiida_e3relax.campaign.group import load_campaign
from aiida_e3relax.campaign.submission.controller import CampaignController
from aiida_e3relax.campaign.submission.lock import lock

send = RemoteProcessThreadController.continue_process

def send_or_die(self, pid, *args, **kwargs):
    if orm.load_node(pid).process_label == 'E3RelaxFinetuneWorkChain':
        os.kill(os.getpid(), signal.SIGKILL)
    return send(self, pid, *args, **kwargs)

RemoteProcessThreadController.continue_process = send_or_die
controller = CampaignController(load_campaign(sys.argv[2]))
with lock(controller.group) as confirm_lock:
    while True:
        controller.advance(5, confirm_lock)
        time.sleep(0.5)
"""


@pytest.mark.slow
@pytest.mark.daemon
def test_a_model_learns_once_though_its_controller_is_killed(
    standin_code, e3relax_code, potential_family, started_daemon_client, aiida_profile, tmp_path, monkeypatch
):
    monkeypatch.setattr(orphans, 'GRACE', datetime.timedelta(0))
    settings = TrainingSettings(hyperparameters={'features': 8, 'layers': 1}, steps=2, batch_size=4, validate_every=1)
    train(made_pairs(), settings, tmp_path / 'base', torch.device('cpu'))
    model = E3RelaxModelData(tmp_path / 'base' / 'best.pt').store()
    choices = ChainChoices(standin_code, e3relax_code, potential_family, 'positions', model, protocol='fast')
    training = {'settings': {'steps': 30, 'validate_every': 10, 'learning_rate': 2e-3}, 'device': 'cpu', 'threads': 1}
    how = LearningSettings(every=6, judge=0.3, least=2, wait=True, parameters=training)
    group = create_campaign(
        'learns', make_crystals(10), choices, reference_share=0.3, max_running=3, batch_size=4, learning=how
    )
    killed = subprocess.Popen([sys.executable, '-c', CONTROLLER, aiida_profile.name, group.label])
    assert killed.wait(PATIENCE) == -signal.SIGKILL
    (round_,) = CampaignController(group).look().processes.rounds
    assert round_.process_state == 'created'

    end = time.monotonic() + PATIENCE
    while not (look := CampaignController(group).look()).is_done:
        assert time.monotonic() < end, look
        CampaignController(group).advance(5)
        time.sleep(0.5)
    (again,) = look.processes.rounds
    assert again.pk == round_.pk
    node = orm.load_node(again.pk)
    assert node.is_finished_ok, node.exit_message
    assert Counter(map(len, look.processes.chains.values())) == {1: 10}
    frame = campaign_frame(group.label)
    assert set(frame['state']) == {'finished'}
    result = read_learning(group.label, frame)
    accepted = node.outputs.evaluation['is_better']
    assert set(frame['generation']) == ({0, 1} if accepted else {0})
    served = {generation.number: set(generation.served) for generation in result.generations}
    assert sum(map(len, served.values())) == 10
    if accepted:
        hashes = frame.groupby('generation')['model'].unique()
        assert [found.tolist() for found in hashes] == [[model.content_hash], [node.outputs.tuned.content_hash]]
        assert look.processes.renewed
    assert result.forecast is None
