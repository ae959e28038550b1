"""Nodes that a person names by PK or UUID."""

from __future__ import annotations

from collections.abc import Sequence
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


def find_named(text: str, kinds: Sequence[type[orm.Node]], complaint: str) -> Any:
    """Return the node of one of `kinds` with that label, else PK or UUID; a label of an earlier kind goes first.

    Raises ClickException for a label that several have, with the `complaint` where there is no such node, and for one
    of another kind.
    """
    for kind in kinds:
        labelled = orm.QueryBuilder().append(kind, filters={'label': text}).all(flat=True)
        if len(labelled) == 1:
            return labelled[0]
        if labelled:
            pks = ', '.join(str(node.pk) for node in labelled)
            raise click.ClickException(f'{text}: several {kind.__name__} have this label; give the PK of one: {pks}')
    node = find_node(text, complaint)
    if not isinstance(node, tuple(kinds)):
        names = ' or '.join(kind.__name__ for kind in kinds)
        raise click.ClickException(f'{text}: expected an {names}, found {describe_node(node)}')
    return node


def describe_node(node: orm.Node) -> str:
    """Return the type and PK of a node; of a process its own type, as `VaspWorkChain`."""
    kind = node.process_label if isinstance(node, orm.ProcessNode) else None
    return f'{kind or type(node).__name__}<{node.pk}>'
