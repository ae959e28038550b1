"""What the parsers of `e3relax`'s jobs share: exit codes, and how a program without a report ended."""

from __future__ import annotations

from pathlib import Path

from aiida.engine import ExitCode
from aiida.parsers import Parser

from aiida_e3relax.common.messages import short
from aiida_e3relax.parsers.prediction_files import find_last_words, find_out_of_memory

SCHEDULER_STATUSES = range(100, 200)
LONGEST_DETAIL = 1000
"""Characters of an exit message that come from the program."""

LAST_BYTES = 2**18
"""How much of the end of a program's output is looked through for what made it stop."""


class ProgramParser(Parser):
    """A parser whose exit codes have a `detail`, for a program that writes `stderr_file`.

    An exit status that the scheduler's parser has set, such as out of walltime, stays unless the report says more.
    """

    stderr_file = 'e3relax.err'

    def _explain_crash(self, folder: Path) -> ExitCode | None:
        """Return the exit code of a program that left no report."""
        program_stderr = _read_if_there(folder / self.stderr_file)
        scheduler_stderr = _read_if_there(folder / (self.node.get_option('scheduler_stderr') or ''))
        line = find_out_of_memory(f'{program_stderr}\n{scheduler_stderr}')
        if line is not None:
            return self._unless_scheduler('ERROR_OUT_OF_MEMORY', line)
        last_words = find_last_words(program_stderr) or find_last_words(scheduler_stderr)
        return self._unless_scheduler('ERROR_PROGRAM_CRASHED', last_words or 'standard error is empty')

    def _unless_scheduler(self, name: str, detail: str) -> ExitCode | None:
        """Return the exit code `name`, or None, which keeps it, when the scheduler's parser has set one."""
        return None if self.node.exit_status in SCHEDULER_STATUSES else self._exit(name, detail)

    def _exit(self, name: str, detail: str) -> ExitCode:
        return self.exit_codes[name].format(detail=short(detail, LONGEST_DETAIL))


def exit_name(code: str, message: str, known: dict[str, str]) -> str:
    """Return the exit code for the error of a report; memory may run out where the program does not expect it."""
    unexpected = 'ERROR_OUT_OF_MEMORY' if find_out_of_memory(message) else 'ERROR_PROGRAM_FAILED'
    return known.get(code, unexpected)


def _read_if_there(path: Path) -> str:
    """Return the end of a file's text."""
    if not path.is_file():
        return ''
    with path.open('rb') as handle:
        handle.seek(max(0, path.stat().st_size - LAST_BYTES))
        return handle.read(LAST_BYTES).decode('utf-8', errors='replace')
