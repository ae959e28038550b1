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


VERDICTS = ('accepted', 'accepted with warnings', 'unchecked', 'rejected')
"""The verdicts of the guard; `unchecked` is of the mode `off`, which earlier versions recorded as accepted."""


class Algo(enum.StrEnum):
    """How VASP moves the ions, in the words of aiida-vasp's `relax_settings`."""

    CG = 'cg'
    """Conjugate gradients (IBRION = 2), whose first step of each line is a trial."""

    RMM_DIIS = 'rd'
    """RMM-DIIS (IBRION = 1): no trial steps; made for starts near the minimum, and unsafe far from it."""


class StaticRun(enum.StrEnum):
    """When a static run follows a relaxation of the cell from a prediction; it always follows one from the raw cell."""

    ALWAYS = 'always'
    """The final energy is of the plane waves of the final cell."""

    WITH_REFERENCE = 'with-reference'
    """Only where the raw structure is relaxed, too: the comparison needs that energy."""
