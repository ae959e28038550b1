"""STOPCAR: the file by which a person ends a run early."""

import re
from enum import Enum
from pathlib import Path


class Stop(Enum):
    """When to stop: after this ionic step (LSTOP) or after this electronic iteration (LABORT)."""

    IONIC = 'LSTOP'
    ELECTRONIC = 'LABORT'


def requested_stop(folder: Path) -> Stop | None:
    """Return what a STOPCAR in the folder asks for, the sooner stop if it asks for both.

    What cannot be read as such a request is passed over: a typing error must not end a long run.
    """
    path = folder / 'STOPCAR'
    if not path.is_file():
        return None
    text = path.read_text(encoding='utf-8', errors='replace')
    stops = (Stop.ELECTRONIC, Stop.IONIC)
    return next((stop for stop in stops if re.search(rf'{stop.value}\s*=\s*\.?T', text, re.IGNORECASE)), None)
