"""What may move, as the nodes of an input say it."""

from __future__ import annotations

from typing import Any

from aiida import orm

from aiida_e3relax.crystals.freedom.freedom import Freedom, Moves

__all__ = ['Freedom', 'Moves', 'freedom_value', 'read_freedom']


def read_freedom(node: orm.Str | orm.Dict) -> Freedom:
    """Return the freedom in an input node; raises ValueError for what is none."""
    return Freedom.from_value(freedom_value(node))


def freedom_value(node: orm.Str | orm.Dict) -> str | dict[str, Any]:
    """Return what an input node `freedom` holds: a value of `Moves`, or the fields of `Freedom`."""
    return node.value if isinstance(node, orm.Str) else node.get_dict()
