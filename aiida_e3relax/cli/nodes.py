"""Nodes that a person names by PK or UUID."""

from __future__ import annotations

from typing import Any

import click
from aiida import orm
from aiida.common.exceptions import NotExistent


def find_node(text: str, complaint: str) -> Any:
    """Return the node of that PK or UUID; raises ClickException with the `complaint` where none has it."""
    try:
        return orm.load_node(text)
    except (NotExistent, ValueError) as error:
        raise click.ClickException(f'{text}: {complaint}') from error


def describe_node(node: orm.Node) -> str:
    """Return the type and PK of a node; of a process its own type, as `VaspWorkChain`."""
    kind = node.process_label if isinstance(node, orm.ProcessNode) else None
    return f'{kind or type(node).__name__}<{node.pk}>'
