"""The words that say what may move; they need no other package, so that a command line can offer them at once."""

from __future__ import annotations

import enum

AXES = 'abc'
"""The lattice vectors by the letters that name them in inputs and messages."""

NO_VACUUM = 'none'
"""The word for `vacuum` of a crystal that has none, however far apart its atoms are."""


class Moves(enum.StrEnum):
    """What the cell does, and whether the atoms follow."""

    POSITIONS = 'positions'
    """The atoms move, the cell stays exactly as it is."""

    CELL = 'cell'
    """Atoms and cell move: everything is relaxed."""

    SHAPE = 'shape'
    """Atoms and the shape of the cell move at constant volume."""

    VOLUME = 'volume'
    """The cell grows or shrinks as a whole; its shape and the fractional coordinates stay."""

    IN_PLANE = 'in-plane'
    """Atoms and the lattice of a layer move; the vacuum vector stays exactly as it is."""
