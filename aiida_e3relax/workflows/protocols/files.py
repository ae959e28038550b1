"""The files with protocols: which there are, and which is the default."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import yaml

CHAIN_PROTOCOLS = 'vasp.yaml'
"""The file of `E3RelaxVaspWorkChain`."""


def read_protocols(name: str) -> dict[str, Any]:
    """Return the content of a file in this folder: `default_protocol` and `protocols`."""
    return copy.deepcopy(_read_yaml(name))


def available_protocols(name: str) -> dict[str, str]:
    """Return the protocols of a file by name, each with its description."""
    protocols = read_protocols(name)['protocols']
    return {key: protocol['description'] for key, protocol in protocols.items() if 'description' in protocol}


def default_protocol(name: str) -> str:
    """Return the name of the protocol that is taken when none is given."""
    return read_protocols(name)['default_protocol']


@functools.cache
def _read_yaml(name: str) -> dict[str, Any]:
    return yaml.safe_load(Path(__file__).with_name(name).read_text(encoding='utf-8'))
