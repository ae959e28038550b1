"""Packages that only some commands need."""

from __future__ import annotations

import importlib.util

import click

REPORT = ('jinja2', 'matplotlib', 'networkx', 'pandas', 'plotly', 'pyarrow')
"""The packages of the extra `report` in `pyproject.toml`."""


def require_report() -> None:
    """Raise ClickException with what to install where packages of the extra `report` are missing."""
    if missing := [name for name in REPORT if importlib.util.find_spec(name) is None]:
        raise click.ClickException(
            f'this command needs packages that are not installed: {", ".join(missing)}. '
            "Install them: pip install 'aiida-e3relax[report]'"
        )
