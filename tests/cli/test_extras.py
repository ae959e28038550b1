"""Commands whose packages are not installed."""

import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from packaging.requirements import Requirement

from aiida_e3relax.cli import main
from aiida_e3relax.cli.extras import REPORT


def test_the_extra_brings_what_is_asked_for():
    project = tomllib.loads((Path(__file__).parents[2] / 'pyproject.toml').read_text(encoding='utf-8'))['project']
    assert {Requirement(line).name for line in project['optional-dependencies']['report']} == set(REPORT)


@pytest.mark.parametrize(
    'words', [['campaign', 'report', 'any'], ['campaign', 'export', 'any'], ['query', 'campaign', 'any']]
)
def test_what_is_missing_is_said_with_how_to_install_it(monkeypatch, words):
    for package in ('pandas', 'pyarrow'):
        monkeypatch.setitem(sys.modules, package, None)
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1
    assert done.output == (
        'Error: this command needs packages that are not installed: pandas, pyarrow. '
        "Install them: pip install 'aiida-e3relax[report]'\n"
    )
