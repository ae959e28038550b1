"""`benchmarks/load.py`: PostgreSQL and RabbitMQ are restarted under a campaign, on services beside the other tests'."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.services.conftest import ROOT

pytestmark = [pytest.mark.services, pytest.mark.timeout(1200)]


def test_a_campaign_goes_on_when_database_and_broker_were_away(tmp_path):
    command = [sys.executable, '-m', 'benchmarks.load', tmp_path, 'maintenance', '--size', '2', '--end']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f'{done.stdout}\n{done.stderr}'
    result = json.loads((tmp_path / 'maintenance.json').read_text(encoding='utf-8'))
    assert [what for _, what in result['faults']] == ['daemon, PostgreSQL and RabbitMQ stopped', 'all three started']
    assert result['audit']['n_jobs'] == 1 + result['structures'] == 3
    assert not (tmp_path / 'services').exists()
