"""The page of the documentation on the test cluster, command by command: PostgreSQL, RabbitMQ, SLURM by SSH."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest

from tests.services.conftest import ROOT, Shell, check_jobs

PAGE = ROOT / 'docs' / 'how_to' / 'test_cluster.md'
CRYSTALS = {path.stem for path in (ROOT / 'docs' / 'examples' / 'tutorial').glob('*u*.cif')}
COMPUTER = 'test-cluster'
END = 'end of a block'
ENVIRONMENT = 'source /tmp/e3relax-services/environment.sh\n'

pytestmark = [pytest.mark.services, pytest.mark.timeout(2400)]


@pytest.fixture(scope='module')
def printed(shell: Shell, database: str) -> dict[str, str]:
    """What the commands of each block print, by the first of them; home and database are this test's own."""
    blocks = re.findall(r'^```bash\n(.*?)^```$', PAGE.read_text(encoding='utf-8'), re.MULTILINE | re.DOTALL)
    script = ''.join(f'{block}echo {END}\n' for block in blocks)
    for of_page, own in (
        (ENVIRONMENT, f'{ENVIRONMENT}export HOME=$OWN_HOME\n'),
        ('createdb test-cluster\n', f'createdb {database}\n'),
        ('--database-name test-cluster ', f'--database-name {database} '),
    ):
        assert script.count(of_page) == 1
        script = script.replace(of_page, own)
    outputs = shell(script).split(f'{END}\n')[:-1]
    return {block.partition('\n')[0]: output for block, output in zip(blocks, outputs, strict=True)}


def test_everything_is_set_up_and_tested_by_ssh(printed):
    of_cluster = printed['source .venv/bin/activate']
    assert re.search(r'^gpu .* idle ', of_cluster, re.MULTILINE)
    assert '0' in of_cluster.splitlines()
    of_profile = printed['createdb test-cluster']
    assert 'amqp://' in of_profile
    assert 'postgresql' in of_profile.lower()
    setup = printed['sed "s|CHECKOUT|$PWD|" docs/examples/test_cluster/setup.yaml > ~/setup.yaml']
    rows = [[cell.strip() for cell in line.split('│')[1:-1]] for line in setup.splitlines() if line.startswith('│')]
    results = {(row[0], row[1]): row[2] for row in rows if len(row) == 4}
    assert {kind for kind, _ in results} == {'computer', 'executable', 'scheduler', 'network', 'potential family'}
    assert set(results.values()) == {'passed'}
    assert re.search(r'all \d+ tests succeeded', setup, re.IGNORECASE)


def test_two_workers_run_the_campaign(printed, shell):
    assert len(re.findall(r'^ *\d+ +\d', printed['verdi daemon start 2'], re.MULTILINE)) == 2
    rows = json.loads(shell('aiida-e3relax query campaign alloys --json'))
    assert {row['label'] for row in rows} == CRYSTALS
    assert {row['state'] for row in rows} == {'finished'}
    assert all(row['raw_ionic_steps'] for row in rows)
    assert all(row['verdict'] for row in rows)


def test_jobs_ran_where_they_were_told_to(printed, shell):
    jobs = check_jobs(shell, COMPUTER)
    done = Counter(job['process'] for job in jobs)
    assert done['E3RelaxCalculation'] >= 3  # the live test, the chain, the campaign
    assert done['VaspCalculation'] > len(CRYSTALS)
