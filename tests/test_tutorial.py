"""The tutorial of the documentation, command by command as it stands there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

DOCS = Path(__file__).parents[1] / 'docs'
BIN = Path(sys.executable).parent
END = 'trap "verdi daemon stop > /dev/null 2>&1 || true" EXIT'


@pytest.mark.slow
@pytest.mark.daemon
@pytest.mark.timeout(3000)
def test_the_tutorial_runs_as_it_stands(tmp_path):
    text = (DOCS / 'tutorial.md').read_text(encoding='utf-8')
    commands = re.findall(r'^```bash\n(.*?)^```$', text, re.MULTILINE | re.DOTALL)
    assert len(commands) >= 8
    shutil.copytree(DOCS / 'examples' / 'tutorial', tmp_path / 'crystals')
    script = '\n'.join(['set -euo pipefail', END, *commands])
    environment = {name: value for name, value in os.environ.items() if name != 'AIIDA_PATH'}
    environment |= {'PATH': f'{BIN}:{os.environ["PATH"]}', 'COLUMNS': '100'}
    done = subprocess.run(
        ['bash', '-c', script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    printed = re.search(r'^```text\n(.*?)^```$', text, re.MULTILINE | re.DOTALL).group(1)
    rows = re.findall(r'^│ (\w[^│]*?) +│', printed, re.MULTILINE)
    assert rows
    told = re.findall(r'^│ (\w[^│]*?) +│', done.stdout, re.MULTILINE)
    place = told.index(rows[0])
    assert told[place : place + len(rows)] == rows
    assert {'predicted.cif', 'predicted.json', 'AuNi.png'} <= {path.name for path in tmp_path.iterdir()}
    assert (tmp_path / 'report' / 'report.html').stat().st_size > 100_000
    table = pd.read_csv(tmp_path / 'report' / 'campaign.csv', index_col='label')
    assert set(table.index) == {path.stem for path in (tmp_path / 'crystals').iterdir()}
    assert table['same_minimum'].notna().all()
    assert (tmp_path / 'published' / 'campaign.aiida').is_file()
