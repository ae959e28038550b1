"""The same cluster by paramiko, and from its own node, in PostgreSQL with AiiDA's ZeroMQ broker."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from tests.services.conftest import BIN, FOLDER, ROOT, Shell, check_jobs
from tests.services.services import PORTS

BY_SSH = {
    'hostname': '127.0.0.1',
    'transport': 'core.ssh',
    'connection': {
        'username': 'root',
        'port': PORTS['SSH_PORT'],
        'key_filename': str(FOLDER / 'home/.ssh/id_ed25519'),
        'look_for_keys': False,
        'safe_interval': 0,
        'use_login_shell': False,
    },
}
HERE = {
    'hostname': 'localhost',
    'transport': 'core.local',
    'connection': {'safe_interval': 0, 'use_login_shell': False},
}
COMPUTERS = {'by-ssh': BY_SSH, 'here': HERE}
OPTIONS = '--protocol fast --network-code e3relax@{0} --vasp-code vasp-standin-emt@{0} --overrides ~/{0}.overrides.yaml'
TELL = """'echo "job $SLURM_JOB_ID in partition $SLURM_JOB_PARTITION, GPU $CUDA_VISIBLE_DEVICES"'"""

pytestmark = [pytest.mark.services, pytest.mark.timeout(2400)]


@pytest.fixture(scope='module')
def profile(shell: Shell, database: str) -> None:
    """A profile with a daemon of two workers."""
    shell(
        f'createdb {database}\n'
        'verdi profile setup core.psql_dos --non-interactive --profile-name transports --email me@example.org '
        '--database-hostname $PGHOST --database-port $PGPORT --database-username $PGUSER '
        f'--database-password $PGPASSWORD --database-name {database} '
        '--repository-uri file://$HOME/.aiida/repository --broker core.zeromq\n'
        'verdi config set daemon.timeout 60\n'
        'verdi daemon start 2'
    )


@pytest.mark.parametrize('computer', COMPUTERS)
def test_setup_and_live_test(computer, profile, shell, tmp_path):
    content = yaml.safe_load(
        (ROOT / 'docs/examples/test_cluster/setup.yaml').read_text(encoding='utf-8').replace('CHECKOUT', str(ROOT))
    )
    file = {
        **content,
        'computers': {computer: content['computers']['test-cluster'] | COMPUTERS[computer]},
        'codes': {label.replace('test-cluster', computer): code for label, code in content['codes'].items()},
    }
    (tmp_path / 'setup.yaml').write_text(yaml.safe_dump(file), encoding='utf-8')
    shell(f'aiida-e3relax setup --config {tmp_path}/setup.yaml --overrides ~/{computer}.overrides.yaml')
    assert re.search(r'all \d+ tests succeeded', shell(f'verdi computer test {computer}'), re.IGNORECASE)


@pytest.mark.parametrize('computer', COMPUTERS)
def test_slurm_refuses_a_partition_that_is_not_there(computer, profile, shell, tmp_path):
    """The live test runs no job of VASP, and yet says so; the overrides are not written."""
    code = {
        'plugin': 'vasp.vasp',
        'executable': f'{BIN}/e3relax-vasp-standin',
        'options': {'queue_name': 'nowhere', 'resources': {'num_machines': 1}},
    }
    (tmp_path / 'setup.yaml').write_text(yaml.safe_dump({'codes': {f'vasp-nowhere@{computer}': code}}))
    told = shell(
        f'! aiida-e3relax setup --config {tmp_path}/setup.yaml --overrides {tmp_path}/overrides.yaml 2>&1\n'
        f'test ! -e {tmp_path}/overrides.yaml'
    )
    assert 'invalid partition specified: nowhere' in told
    assert f'mend `options` of vasp-nowhere@{computer} in the file' in told


def test_campaign_by_ssh(profile, shell):
    options = OPTIONS.format('by-ssh')
    shell(
        f"aiida-e3relax campaign create alloys --from 'docs/examples/tutorial/*Cu*.cif' --reference none {options}\n"
        'aiida-e3relax campaign run alloys --interval 1'
    )
    rows = json.loads(shell('aiida-e3relax query campaign alloys --json'))
    assert {row['label'] for row in rows} == {'Cu3Pt', 'CuAu'}
    assert {row['state'] for row in rows} == {'finished'}
    assert all((row['predicted_ionic_steps'] or row['raw_ionic_steps']) > 0 for row in rows)


def test_chain_from_the_node_itself_whose_node_fails(profile, shell, tmp_path):
    """SLURM takes the network's first job down with its node; the chain runs another, and ends well."""
    program = tmp_path / 'e3relax.sh'
    program.write_text(
        f'#!/bin/bash\nif mkdir {tmp_path}/begun 2> /dev/null; then sleep 300; fi\nexec {BIN}/e3relax "$@"\n',
        encoding='utf-8',
    )
    program.chmod(0o755)
    options = OPTIONS.format('here').replace('e3relax@here', 'interrupted@here')
    shell(
        'verdi code create core.code.installed --non-interactive --label interrupted --computer here '
        f'--filepath-executable {program} --default-calc-job-plugin e3relax.predict --prepend-text {TELL}\n'
        f'aiida-e3relax relax docs/examples/tutorial/AgPd.cif {options} &\n'
        'CHAIN=$!\n'
        f'until [ -d {tmp_path}/begun ] || ! kill -0 $CHAIN; do sleep 0.2; done\n'
        'NODE=$(sinfo --noheader --format=%n --partition=gpu)\n'
        'scontrol update nodename=$NODE state=down reason=test\n'
        'until scontrol update nodename=$NODE state=resume || sinfo --noheader --format=%T | grep -q idle; do\n'
        '    sleep 1\n'
        'done\n'
        'wait $CHAIN'
    )


@pytest.mark.parametrize(('computer', 'lost'), [('by-ssh', 0), ('here', 1)])
def test_jobs_ran_where_they_were_told_to(computer, lost, profile, shell):
    jobs = check_jobs(shell, computer, lost)
    assert {job['process'] for job in jobs} == {'E3RelaxCalculation', 'VaspCalculation'}
