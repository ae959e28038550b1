"""What jobs ask the scheduler for, as overrides of chains."""

from __future__ import annotations

from typing import Any

import yaml

from aiida_e3relax.cli.setup_file.settings import PREDICT, VASP, SetupSettings
from aiida_e3relax.common.mappings import merge

PLACES = {PREDICT: ('network', 'predict'), VASP: ('vasp', 'vasp', 'calc')}
"""Where the inputs of a chain have the jobs of a plugin."""
SEPARATOR = '---\n'
"""Between the documents of several codes of one plugin."""


def write_overrides(settings: SetupSettings) -> str:
    """Return, as YAML, the overrides by which chains ask for the `options` of the codes; empty where there are none.

    Where several codes of a plugin have options, each stands in a document of its own.
    """
    parts = {label: code for label, code in settings.codes.items() if code.options and code.plugin in PLACES}
    plugins = [code.plugin for code in parts.values()]
    if len(plugins) > len(set(plugins)):
        return SEPARATOR.join(_write([label], _nest(code.plugin, code.options)) for label, code in parts.items())
    joined: dict[str, Any] = {}
    for code in parts.values():
        joined = merge(joined, _nest(code.plugin, code.options))
    return _write(list(parts), joined) if joined else ''


def _nest(plugin: str, options: dict[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {'metadata': {'options': options}}
    for name in reversed(PLACES[plugin]):
        nested = {name: nested}
    return nested


def _write(labels: list[str], overrides: dict[str, Any]) -> str:
    return f'# for {" and ".join(labels)}\n{yaml.safe_dump(overrides, sort_keys=False)}'
