"""What an exception means for a run as a whole, for the reports that programs read. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiida_e3relax.common.errors import OutOfMemoryError, OutputError, RunError, RunInterruptedError
from aiida_e3relax.common.messages import describe_error
from aiida_e3relax.common.out_of_memory import is_out_of_memory


def as_run_error(
    error: BaseException, memory_advice: str, describe: Callable[[BaseException], str] = describe_error
) -> RunError:
    """Return what an exception means for the run; one that nobody expected keeps its name.

    `memory_advice` is what to do where memory ran out, and `describe` puts exceptions of libraries into words.
    """
    if isinstance(error, RunError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return RunInterruptedError(str(error) or 'interrupted')
    if is_out_of_memory(error):
        return OutOfMemoryError(f'{describe(error)}: {memory_advice}')
    if isinstance(error, OSError):
        return OutputError(f'{error.filename or "a temporary file"}: {error.strerror or error}')
    return RunError(describe(error))


def error_entry(error: RunError) -> dict[str, Any]:
    """Return the entry `error` of a report."""
    return {'code': error.code, 'message': str(error), 'exit_status': error.exit_status}
