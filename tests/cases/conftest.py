"""The inputs that failed once, which lie beside the repository on some machines and are not a part of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CASES = Path(__file__).parents[3] / 'shared' / 'cases'
DRIVER = Path(__file__).with_name('driver.py')


@pytest.fixture(scope='session')
def cases() -> Path:
    """The folder of these inputs; tests that need it are skipped where it is absent."""
    if not CASES.is_dir():
        pytest.skip(f'{CASES.parent.name}/{CASES.name} is not there')
    return CASES


@pytest.fixture(scope='session')
def run_jobs(tmp_path_factory) -> Callable[[list[dict[str, Any]]], dict[str, dict[str, Any]]]:
    """A function that runs jobs in the driver and returns how each ended, by name.

    A job that ended the driver is missing, and so are those after it.
    """

    def run(jobs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        folder = tmp_path_factory.mktemp('jobs')
        (folder / 'jobs.json').write_text(json.dumps(jobs), encoding='utf-8')
        results = folder / 'results.jsonl'
        results.touch()
        environment = os.environ | {'OMP_NUM_THREADS': '1', 'COLUMNS': '200'}
        subprocess.run([sys.executable, DRIVER, folder / 'jobs.json', results], check=False, env=environment)
        return {row['name']: row for row in map(json.loads, results.read_text(encoding='utf-8').splitlines())}

    return run
