"""A campaign is run by one process at a time, and is free again however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import click
import pytest
from aiida import orm
from aiida.manage import get_manager
from ase.build import bulk
from sqlalchemy.exc import IntegrityError, OperationalError

from aiida_e3relax.campaign.creation import create_campaign
from aiida_e3relax.campaign.submission import lock as lock_module
from aiida_e3relax.campaign.submission.lock import CampaignLockedError, LockLostError, lock
from aiida_e3relax.cli.campaign.errors import plain_errors
from aiida_e3relax.workflows.vasp.choices import ChainChoices

HOLDER = """
import sys, time
from aiida import load_profile
load_profile(sys.argv[1])
from aiida_e3relax.campaign.group import load_campaign
from aiida_e3relax.campaign.submission.lock import lock
with lock(load_campaign(sys.argv[2])):
    print('held', flush=True)
    time.sleep(60)
"""


def test_another_process_is_named_and_kill_9_sets_free(standin_code, potential_family, aiida_profile):
    choices = ChainChoices(standin_code, None, potential_family, 'cell')
    group = create_campaign('held elsewhere', {'a': orm.StructureData(ase=bulk('Cu'))}, choices)
    command = [sys.executable, '-c', HOLDER, aiida_profile.name, group.label]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == 'held\n'
        with pytest.raises(CampaignLockedError, match=f'process {holder.pid}'), lock(group):
            pass
        os.kill(holder.pid, signal.SIGKILL)
    with lock(group) as confirm:
        confirm()
        with pytest.raises(CampaignLockedError, match=f'process {os.getpid()}'), lock(group):
            pass


def test_what_to_do_when_the_database_was_away_is_told(aiida_profile, monkeypatch):
    monkeypatch.setattr(lock_module, 'POSTGRESQL', aiida_profile.storage_backend)
    lost = LockLostError()
    lost.__cause__ = OperationalError('SELECT 1', {}, Exception('terminating connection\nmore'))
    with pytest.raises(click.ClickException) as told, plain_errors('any'):
        raise lost
    assert 'terminating connection)' in told.value.message
    commands = [f'`verdi {words}`' for words in ('daemon stop', 'process repair', 'daemon start')]
    places = [told.value.message.index(command) for command in commands]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ('backend', 'error'),
    [
        ('core.sqlite_dos', OperationalError('INSERT', {}, Exception('database is locked'))),
        ('core.psql_dos', IntegrityError('INSERT', {}, Exception('database is locked'))),
    ],
)
def test_an_error_of_a_database_that_is_there_is_told_as_such(aiida_profile, monkeypatch, backend, error):
    monkeypatch.setattr(type(get_manager().get_profile()), 'storage_backend', backend)
    with pytest.raises(click.ClickException) as told, plain_errors('any'):
        raise error
    assert 'database is locked' in told.value.message
    assert 'verdi' not in told.value.message
