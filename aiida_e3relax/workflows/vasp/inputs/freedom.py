"""The input `freedom`: reading it from its node, and what follows from it for VASP and the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm

from aiida_e3relax.calculations.pre_relaxer import PreRelaxer
from aiida_e3relax.crystals.freedom.freedom import Freedom, Moves
from aiida_e3relax.crystals.freedom.vacuum import gap_of
from aiida_e3relax.data.structures import structures_to_crystals

__all__ = ['Freedom', 'Moves', 'freedom_value', 'open_axes', 'predict_all', 'read_freedom']


def read_freedom(node: orm.Str | orm.Dict) -> Freedom:
    """Return the freedom in an input node; raises ValueError for what is none."""
    return Freedom.from_value(freedom_value(node))


def freedom_value(node: orm.Str | orm.Dict) -> str | dict[str, Any]:
    """Return what an input node `freedom` holds: a value of `Moves`, or the fields of `Freedom`."""
    return node.value if isinstance(node, orm.Str) else node.get_dict()


def open_axes(freedom: Freedom, structure: orm.StructureData) -> list[int]:
    """Return the lattice vectors that lead across a vacuum: one of a layer, two of a wire."""
    gap = gap_of(freedom, structures_to_crystals({'structure': structure}))
    return gap.open_axes if gap else []


def predict_all(
    parameters: orm.Dict | Mapping[str, Any] | None,
    freedom: str | Mapping[str, Any],
    fixed: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return the `parameters` of the run of the network or of a potential for structures that relax with `freedom`.

    Both hold what may not move while they predict, as networks do in their training; the chain projects what comes out
    on what may move, with the kinds of its sites. A network alone is not told to keep the symmetry, for which its
    machine would need spglib: that projection does. `fixed` are the sites that are held beside those of `freedom`, by
    the label of the structure.

    Raises ValueError where `parameters` say themselves what may move.
    """
    given = dict(parameters.get_dict() if isinstance(parameters, orm.Dict) else parameters or {})
    if told := [name for name in ('freedom', 'fixed') if given.get(name) is not None]:
        raise ValueError(f'`{told[0]}`: expected none, what may move is said by the input `freedom` of the chain')
    given.pop('vacuum', None)  # earlier versions were told by it that the chain has looked for one
    if not isinstance(freedom, str) and PreRelaxer.of_parameters(given).potential is None:
        freedom = {**freedom, 'keep_symmetry': False}
    return {**given, 'freedom': freedom, **({'fixed': fixed} if fixed else {})}
