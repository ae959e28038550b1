"""Elements of vasprun.xml as text."""

import re
from collections.abc import Iterable, Sequence
from xml.sax.saxutils import escape

import numpy as np

from aiida_e3relax.standin.engines import Energies
from aiida_e3relax.standin.geometry import FractionalGeometry

_FORBIDDEN = re.compile('[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]')
"""Characters that XML has no way to write."""

Value = bool | int | float | str | Sequence[float]


def item(name: str, value: Value) -> str:
    """Return an ``<i>`` element, or ``<v>`` for a sequence of numbers, with the type that VASP states."""
    if isinstance(value, bool):
        return f'  <i type="logical" name="{name}">{"T" if value else "F"}</i>\n'
    if isinstance(value, int):
        return f'  <i type="int" name="{name}">{value:6d}</i>\n'
    if isinstance(value, float):
        return f'  <i name="{name}">{value:16.8f}</i>\n'
    if isinstance(value, str):
        return f'  <i type="string" name="{name}">{escape(_FORBIDDEN.sub("?", value))}</i>\n'
    return f'  <v name="{name}">{vector(value)}</v>\n'


def vector(values: Iterable[float]) -> str:
    """Return numbers in columns."""
    return ' '.join(f'{value:16.10f}' for value in values)


def varray(name: str, rows: np.ndarray) -> str:
    """Return a ``<varray>`` element of the rows."""
    body = ''.join(f'   <v>{vector(row)}</v>\n' for row in rows)
    return f'  <varray name="{name}">\n{body}  </varray>\n'


def energy(energies: Energies) -> str:
    """Return the ``<energy>`` element (eV)."""
    return (
        '  <energy>\n'
        f'   <i name="e_fr_energy">{energies.free:16.8f}</i>\n'
        f'   <i name="e_wo_entrp">{energies.without_entropy:16.8f}</i>\n'
        f'   <i name="e_0_energy">{energies.extrapolated:16.8f}</i>\n'
        '  </energy>\n'
    )


def structure(geometry: FractionalGeometry, name: str | None = None, movable: np.ndarray | None = None) -> str:
    """Return the ``<structure>`` element: lattice (A), volume (A^3), reciprocal lattice, fractional coordinates.

    With selective dynamics, `movable` ``(n_atoms, 3)`` says which coordinates are free.
    """
    opening = '<structure>' if name is None else f'<structure name="{name}">'
    flags = [] if movable is None else ['  '.join('FT'[int(free)] for free in row) for row in movable]
    rows = ''.join(f'   <v type="logical">  {row} </v>\n' for row in flags)
    selective = f'  <varray name="selective" type="logical">\n{rows}  </varray>\n' if flags else ''
    return (
        f' {opening}\n  <crystal>\n'
        + varray('basis', geometry.cell)
        + f'   <i name="volume">{geometry.volume:16.8f}</i>\n'
        + varray('rec_basis', geometry.reciprocal)
        + '  </crystal>\n'
        + varray('positions', geometry.scaled)
        + selective
        + ' </structure>\n'
    )
