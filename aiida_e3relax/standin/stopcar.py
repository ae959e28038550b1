"""STOPCAR: the file by which a person ends a run early."""

from enum import Enum
from pathlib import Path

from aiida_e3relax.standin.incar import Incar


class Stop(Enum):
    """When to stop: after this ionic step (LSTOP) or after this electronic iteration (LABORT)."""

    IONIC = 'LSTOP'
    ELECTRONIC = 'LABORT'


def requested_stop(folder: Path) -> Stop | None:
    """Return what a STOPCAR in the folder asks for, the sooner stop if it asks for both."""
    path = folder / 'STOPCAR'
    if not path.exists():
        return None
    tags = Incar(path.read_text(encoding='utf-8'))
    return next((stop for stop in (Stop.ELECTRONIC, Stop.IONIC) if tags.logical(stop.value, False)), None)
