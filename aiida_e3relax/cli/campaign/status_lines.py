"""The status of a campaign as plain lines for a file or a pipe: one for each change."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator

from aiida_e3relax.campaign.submission.processes import State
from aiida_e3relax.campaign.submission.status import Status
from aiida_e3relax.cli.campaign.status_table import format_notes
from aiida_e3relax.common.messages import printable

COUNTED = re.compile(r'^[\d,]+ (job|process|structure)(?:es|s)? (?:is|are)\b')
"""What begins with a number: `1 job is ...`, `2 processes are ...`."""


class StatusLines:
    """Gives the changes from one status of a campaign to the next, each line after `prefix`."""

    def __init__(self, prefix: str = '') -> None:
        self._prefix = prefix
        self._counts = ''
        self._failed: set[str] = set()
        self._notes: set[str] = set()

    def changes(self, status: Status, warning: str = '') -> Iterator[str]:
        """Yield a line for each thing that is new, with the time."""
        now = f'{datetime.datetime.now().isoformat(" ", timespec="seconds")}{self._prefix}'
        counts = '; '.join(
            f'{name}: {_format_counts(of_state)}'
            for name, of_state in (('batches', status.networks), ('structures', status.chains))
            if any(of_state.values())
        )
        if counts != self._counts:
            yield f'{now} {counts}'
        for failure in status.failures:
            for label in failure.labels:
                if label not in self._failed:
                    ended = failure.name if failure.name in list(State) else f'failed with exit code {failure.name}'
                    yield f'{now} {printable(label)}: {ended}'
        notes = [*format_notes(status), *['paused'] * status.is_paused, *filter(None, [warning])]
        for note in notes:
            if _without_count(note) not in self._notes:
                yield f'{now} {note}'
        self._counts, self._notes = counts, set(map(_without_count, notes))
        self._failed = {label for failure in status.failures for label in failure.labels}


def _format_counts(counts: dict[State, int]) -> str:
    return ', '.join(f'{count} {state}' for state, count in counts.items() if count)


def _without_count(note: str) -> str:
    """Return a note without the number that it begins with, which changes while the note says the same."""
    return COUNTED.sub(r'\1 are', note)
