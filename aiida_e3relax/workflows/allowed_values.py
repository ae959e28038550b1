"""Values that inputs of the chain may have; they need no other package, so that a command line can offer them at once.

What may move, `Moves`, is in `crystals.freedom.words`.
"""

from __future__ import annotations

import enum

FORCE_CUTOFFS = (1e-6, 10.0)
"""In eV/A, from the smallest to the largest that makes sense."""
KPOINTS_SPACINGS = (1e-3, 10.0)
"""In 2 pi/A; a smaller one asks for thousands of points along each vector."""


class GuardMode(enum.StrEnum):
    """What follows when a prediction is out of bounds."""

    REJECT = 'reject'
    """VASP starts from the raw structure."""

    WARN = 'warn'
    """VASP starts from the prediction and the reasons are recorded."""

    OFF = 'off'
    """The bounds are not looked at."""
