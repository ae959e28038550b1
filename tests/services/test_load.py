"""`benchmarks/load.py`: PostgreSQL and RabbitMQ are restarted under a campaign, on services beside the other tests'."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.conftest import ROOT

pytestmark = [pytest.mark.services, pytest.mark.timeout(1200)]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that PostgreSQL's user can enter, which those of pytest are not."""
    with tempfile.TemporaryDirectory(prefix='e3relax-load-', dir='/tmp') as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_campaign_goes_on_when_database_and_broker_were_away(folder):
    command = [sys.executable, '-m', 'benchmarks.load', folder, 'maintenance', '--size', '2', '--end']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f'{done.stdout}\n{done.stderr}'
    result = json.loads((folder / 'maintenance.json').read_text(encoding='utf-8'))
    assert [what for _, what in result['faults']] == ['daemon, PostgreSQL and RabbitMQ stopped', 'all three started']
    assert result['audit']['n_jobs'] == 1 + result['structures'] == 3
    assert not (folder / 'services').exists()
