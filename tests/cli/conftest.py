"""An AiiDA instance of its own, made by the commands that a person types."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='session')
def run_in(tmp_path_factory) -> Callable[..., subprocess.CompletedProcess]:
    """A function that runs a script of this environment in the repository, with another folder as the AiiDA path."""

    def run(aiida_path: Path, command: str, *arguments: object) -> subprocess.CompletedProcess:
        environment = os.environ | {'AIIDA_PATH': str(aiida_path), 'COLUMNS': '200'}
        words = [str(BIN / command), *map(str, arguments)]
        return subprocess.run(words, capture_output=True, text=True, check=False, env=environment, cwd=ROOT)

    return run


@pytest.fixture(scope='session')
def prepared(run_in, tmp_path_factory) -> tuple[Path, str]:
    """The AiiDA path of a profile that `aiida-e3relax setup` prepared, and what it printed."""
    path = tmp_path_factory.mktemp('first-run')
    options = ['--profile-name', 'first-run', '--email', 'first@run', '--broker', 'core.zeromq', '--non-interactive']
    profile = run_in(path, 'verdi', 'profile', 'setup', 'core.sqlite_dos', *options)
    assert profile.returncode == 0, profile.stderr
    setup = run_in(path, 'aiida-e3relax', 'setup', '--engine', 'emt', '--engine', 'ionic')
    assert setup.returncode == 0, setup.stderr
    return path, setup.stdout
