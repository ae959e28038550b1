"""The crystals to which an arm brings no start of its own, and why most of them have none."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable

import pandas as pd

from aiida_e3relax.campaign.results.outcomes import find_outcomes
from aiida_e3relax.common.messages import short

LONGEST_REASON = 300
"""In characters, in a sentence."""
OF_ONE_CRYSTAL = re.compile(r'\S*[\dA-Z`]\S*')
"""The words of a reason that differ between crystals: numbers, elements and labels."""


@dataclasses.dataclass(frozen=True)
class WithoutStart:
    """Crystals that count with their raw leg in an arm, since VASP had no start from it.

    Attributes
    ----------
    labels
        In the order of labels.
    reason
        The commonest one, as it was given of the first of them that has it; empty where none is known.
    n_reason
        How many of them have it.
    """

    labels: tuple[str, ...] = ()
    reason: str = ''
    n_reason: int = 0


def find_without_start(frame: pd.DataFrame, outcome: str) -> WithoutStart:
    """Return the crystals of a table with this outcome, `rejected` or `no prediction`."""
    rows = frame[find_outcomes(frame) == outcome] if len(frame) else frame
    rows = rows.sort_index()
    given = [
        (OF_ONE_CRYSTAL.sub('', reason), reason) for _, row in rows.iterrows() for reason in _list_reasons(row, outcome)
    ]
    (kind, count), *_ = Counter(kind for kind, _ in given).most_common(1) or [('', 0)]
    reason = next((reason for other, reason in given if other == kind), '')
    return WithoutStart(tuple(map(str, rows.index)), short(reason, LONGEST_REASON), count)


def _list_reasons(row: pd.Series, outcome: str) -> Iterable[str]:
    """Return the bounds of the guard that a prediction breaks, or what the chain remarks first: why there is none."""
    if outcome == 'rejected':
        return row['reasons'] or ()
    return (row['remarks'] or ())[:1]
