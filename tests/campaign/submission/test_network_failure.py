"""A code of the network that is set wrongly, through the command: raw relaxations are not spent on it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from aiida import orm
from ase.build import bulk

from aiida_e3relax.campaign.creation import create_campaign
from aiida_e3relax.campaign.group import CampaignGroup
from aiida_e3relax.campaign.submission.controller import CampaignController
from aiida_e3relax.workflows.vasp.choices import ChainChoices

PATIENCE = 300  # s
LAST_WORDS = f'{"/folder" * 20}/e3relax: No such file'


@pytest.fixture
def broken(make_scripted_code, standin_code, potential_family, model, tmp_path) -> CampaignGroup:
    """A campaign of two structures whose network stops without a report, unless a file `mended` is there."""
    fails = f'{{ echo "{LAST_WORDS}" >&2; exit 3; }}'
    lines = f'echo start >> {tmp_path}/started; test -e {tmp_path}/mended || {fails}'
    network = make_scripted_code(lines, 'e3relax', 'e3relax.predict')
    choices = ChainChoices(standin_code, network, potential_family, 'positions', model, protocol='fast')
    structures = {f'c{place}': orm.StructureData(ase=bulk('Cu', a=3.5 + place / 10)) for place in range(2)}
    return create_campaign(tmp_path.name, structures, choices, reference_share=0.0)


@pytest.fixture
def run_campaign(aiida_profile) -> Callable[..., subprocess.CompletedProcess]:
    def run(group: CampaignGroup, *words: str) -> subprocess.CompletedProcess:
        program = str(Path(sys.executable).with_name('aiida-e3relax'))
        command = [program, 'campaign', 'run', group.label, '--interval', '0.5']
        return subprocess.run(
            [*command, '-p', aiida_profile.name, *words], capture_output=True, text=True, timeout=PATIENCE, check=False
        )

    return run


@pytest.mark.slow
@pytest.mark.daemon
def test_structures_wait_for_a_network_that_is_mended(broken, run_campaign, started_daemon_client, tmp_path):
    done = run_campaign(broken)
    assert (done.returncode, 'Traceback' in done.stderr) == (1, False), done.stderr
    assert '2 structures are held back' in done.stderr
    lines = done.stdout.splitlines()
    held = next(line for line in lines if '2 structures are held back: the network failed for batch_0' in line)
    assert LAST_WORDS in held
    assert any('--retry-failed' in line for line in lines)
    assert '\x1b' not in done.stdout
    assert len(lines) == len(set(lines))
    processes = CampaignController(broken).look().processes
    assert [process.exit_status for process in processes.networks[0]] == [330, 330]
    assert processes.chains == {'c0': [], 'c1': []}

    (tmp_path / 'mended').touch()
    done = run_campaign(broken, '--retry-failed', '--network-jobs', '2')
    assert done.returncode == 0, done.stderr
    assert broken.network_jobs == 2
    assert 'Trying again: batch_0' in done.stdout
    assert 'All has ended' in done.stdout
    processes = CampaignController(broken).look().processes
    assert len(processes.networks[0]) == 3
    assert [chain.exit_status for tries in processes.chains.values() for chain in tries] == [0, 0]
