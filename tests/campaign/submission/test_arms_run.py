"""A crystal from three starts, through the commands, a daemon and VASP's stand-in, until they are compared."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import ase.build
import ase.io
import pytest
from aiida import orm

from aiida_e3relax.campaign.arms import find_arms
from aiida_e3relax.campaign.group import load_campaign
from aiida_e3relax.campaign.submission.controller import CampaignController

pytest.importorskip('sevenn')
PATIENCE = 900  # s
LABELS = ['crystals_0', 'crystals_1']
ARMS = ('network', 'sevennet-mf-0', 'dls-volume')


@pytest.mark.slow
@pytest.mark.timeout(2 * PATIENCE)
@pytest.mark.daemon
def test_three_arms_share_raw_legs_and_are_compared(
    aiida_profile, e3relax_code, standin_code, potential_family, started_daemon_client, tmp_path
):
    def run(*words: object) -> str:
        program = str(Path(sys.executable).with_name('aiida-e3relax'))
        command = [program, 'campaign', *map(str, words), '-p', aiida_profile.name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    for volume in (1.05, 1.15):
        crystal = ase.build.bulk('Cu', cubic=True)
        crystal.symbols[0] = 'Au'
        crystal.set_cell(crystal.cell * volume ** (1 / 3), scale_atoms=True)
        ase.io.write(tmp_path / 'crystals.extxyz', crystal, append=True)
    codes = ('--network-code', e3relax_code.uuid, '--vasp-code', standin_code.uuid)
    chosen = ('--potential-family', potential_family, '--protocol', 'fast', '--arms', *ARMS)
    made = run('create', tmp_path.name, '--from', tmp_path / 'crystals.extxyz', *codes, *chosen)
    assert 'In all 8 relaxations by VASP (2 from raw crystals, 6 from predictions)' in made
    assert 'All has ended' in run('run', tmp_path.name, '--interval', '1', '--max-running', '3')

    told = run('compare', tmp_path.name, '--output', tmp_path / 'compared')
    assert 'On the 2 crystals that all 3 arms have, VASP takes' in told
    with (tmp_path / 'compared' / 'compare.csv').open(encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    assert [row['label'] for row in rows] == LABELS
    for row in rows:
        assert {row[f'{arm}: outcome'] for arm in ARMS} == {'compared'}
        assert {row[f'{arm}: same_minimum'] for arm in ARMS} == {'True'}
    base = load_campaign(tmp_path.name)
    n_relaxations = 0
    for arm, group in zip(ARMS, (base, *find_arms(base)), strict=True):
        for row in rows:
            (chain,) = CampaignController(group).look().processes.chains[row['label']]
            chain = orm.load_node(chain.pk)
            comparison = chain.outputs.comparison
            assert float(row[f'{arm}: ionic_steps']) == comparison['predicted']['ionic_steps']
            assert float(row['raw: ionic_steps']) == comparison['raw']['ionic_steps']
            assert comparison['network']['pre_relaxer'] == arm
            called = [node.process_label for node in chain.called]
            n_relaxations += called.count('ResilientVaspRelaxWorkChain')
    assert n_relaxations == 8
