"""The tables of faults in the documentation: what the tests of faults hold the code to."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / 'docs' / 'faults.md'
COUNT = re.compile(r'(\d+) x (\d+)')


@dataclasses.dataclass(frozen=True)
class Codes:
    """The exit codes of the jobs in order, and that of the work chain around them."""

    jobs: list[int]
    end: int

    @classmethod
    def parse(cls, cell: str) -> Codes:
        """Read `700, 0 -> 0`, or `5 x 700 -> 401`."""
        jobs, _, end = cell.partition('->')
        codes = COUNT.sub(lambda match: ', '.join([match[2]] * int(match[1])), jobs)
        return cls([int(code) for code in codes.split(',')], int(end))


def read_table(heading: str) -> dict[str, list[str]]:
    """Return the cells of the table under a heading, without the first ones, by the word in backquotes in these."""
    section = DOCUMENT.read_text(encoding='utf-8').split(f'\n## {heading}\n')[1].split('\n## ')[0]
    rows = [[cell.strip() for cell in line.strip('|\n').split('|')] for line in section.splitlines() if '|' in line]
    return {re.match('`([^`]+)`', cells[0])[1]: cells[1:] for cells in rows if cells[0].startswith('`')}
