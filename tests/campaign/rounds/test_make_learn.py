"""`make learn` as a new user runs it: a campaign that learns twice on the way, to its report."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.timeout(3600)  # s; 7 minutes on two cores that do nothing else
def test_a_campaign_learns_twice_and_saves_more_at_its_end(tmp_path):
    environment = {**os.environ, 'AIIDA_PATH': str(tmp_path)}
    try:
        subprocess.run(['make', 'learn', f'AIIDA_PATH={tmp_path}'], cwd=ROOT, env=environment, check=True)
    finally:
        stop = ['-m', 'aiida', '-p', 'e3relax', 'daemon', 'stop']
        subprocess.run([sys.executable, *stop], env=environment, check=False)
    check_report(json.loads((ROOT / 'reports/learning/campaign.json').read_text(encoding='utf-8')))


def check_report(report: dict[str, Any]) -> None:
    """All chains ended well, there were two rounds, a model was taken, and the last one saved more than the first."""
    assert {row['state'] for row in report['structures']} == {'finished'}
    one, two = report['learning']['rounds']
    assert (one['state'], two['state']) == ('finished', 'finished')
    assert one['after'] >= 11  # every=11 in the Makefile; two chains may end between two looks
    assert two['after'] >= one['after'] + 11
    first, *later = report['learning']['generations']
    assert len(first['served']) + sum(len(each['served']) for each in later) == len(report['structures'])
    assert later[-1]['saved']['value'] > first['saved']['value']
    assert later[-1]['start_error']['value'] < first['start_error']['value']
