"""The retrieved text files of a VASP job, and the last lines in them that say how it ended."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiida import orm
from aiida_vasp.parsers.vasp import ParserSettingsConfig

from aiida_e3relax.common.messages import short

STDOUT = 'vasp_output'
TAIL = 20_000
"""Bytes at the end of a file that are looked at."""
LAST_LINES = 20
MOST_LINES = 4
LONGEST_LINE = 160
ERROR = re.compile(
    r'error|fatal|fail|abort|severe|killed|refuse|cannot|not found|no such|denied|out of memory|limit', re.I
)
FRAME = re.compile(r'[\s|*=+~<>!#-]*')
"""What VASP draws around its messages; a line of nothing else says nothing."""
LETTERS = re.compile(r'[EROWANIG# ]+')
"""The large ERROR, WARNING and ADVICE that VASP draws of small letters."""


@contextmanager
def open_retrieved_text(folder: orm.FolderData, name: str) -> Iterator[io.TextIOWrapper]:
    """Open a retrieved file as text; bytes that are no UTF-8 are replaced."""
    with folder.base.repository.open(name, 'rb') as handle:
        yield io.TextIOWrapper(handle, encoding='utf-8', errors='replace')


def find_missing_files(job: orm.CalcJobNode) -> str | None:
    """Return which of the files without which aiida-vasp parses nothing a VASP job did not leave, or None."""
    if job.process_label != 'VaspCalculation' or 'retrieved' not in job.outputs:
        return None
    own = job.inputs.settings.get_dict().get('parser_settings', {}) if 'settings' in job.inputs else {}
    there = job.outputs.retrieved.base.repository.list_object_names()
    missing = [name for name in ParserSettingsConfig(**own).critical_objects if name not in there]
    return f'it left no {" and no ".join(missing)}' if missing else None


def find_last_lines(job: orm.CalcJobNode) -> str | None:
    """Return what a VASP job and the shell or scheduler around it wrote last, to follow its exit message, or None.

    That is the first of the last lines that reports an error, and those after it; else the last lines.
    """
    if job.process_label != 'VaspCalculation' or 'retrieved' not in job.outputs:
        return None
    retrieved = job.outputs.retrieved
    names: dict[str, Any] = {'VASP wrote': STDOUT, 'the shell or scheduler wrote': job.get_option('scheduler_stderr')}
    there = retrieved.base.repository.list_object_names()
    told = {who: _last_lines(_read_tail(retrieved, name)) for who, name in names.items() if name in there}
    return '; '.join(f'{who} `{" / ".join(lines)}`' for who, lines in told.items() if lines) or None


def _read_tail(folder: orm.FolderData, name: str) -> str:
    tail = b''
    with folder.base.repository.open(name, 'rb') as handle:
        while chunk := handle.read(1 << 20):
            tail = (tail + chunk)[-TAIL:]
    return tail.decode(errors='replace')


def _last_lines(text: str) -> list[str]:
    """Return the lines that say how a program ended."""
    lines = [line.strip(' |\t\r') for line in text.split('\n')]
    lines = [line for line in lines if not FRAME.fullmatch(line) and not LETTERS.fullmatch(line)][-LAST_LINES:]
    first = next((place for place, line in enumerate(lines) if ERROR.search(line)), -MOST_LINES)
    return [short(' '.join(line.split()), LONGEST_LINE) for line in lines[first:][:MOST_LINES]]
