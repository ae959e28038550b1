"""The report of a call of ``e3relax train`` or ``finetune``, for programs: how it ended, in JSON. Needs no torch."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aiida_e3relax.common.errors import InputError, RunError, RunInterruptedError, TrainingInterruptedError
from aiida_e3relax.common.messages import printable
from aiida_e3relax.common.output_files import check_output, whole_file
from aiida_e3relax.common.run_errors import as_run_error, error_entry
from aiida_e3relax.common.strict_json import finite

SCHEMA = 1
PROGRAM = 'e3relax'
MEMORY_ADVICE = 'give a smaller batch_size, a smaller model, or a larger device'


def check_report(path: Path) -> None:
    """Raise InputError unless `path` is new, empty, or an earlier report.

    Which files a run reads is known only once its configuration is read, and a report tells of errors before that, too.
    """
    check_output(path, '--report', [], takes_special=True)
    if path.is_file() and path.stat().st_size and not _is_report(path):
        raise InputError(
            f'--report {printable(path)}: is there already and no report of a training, and would be lost: name '
            'another file'
        )


def _is_report(path: Path) -> bool:
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get('program') == PROGRAM


@contextlib.contextmanager
def training_report(path: Path | None) -> Iterator[dict[str, Any]]:
    """Yield the facts of a run, to be filled in, and write them to `path` when it ends, well or not.

    An exception that ends it stands there as `error`, with its code, message and exit status. It is raised as the
    `RunError` that it means; one that nobody expected, as it is.
    """
    begin = time.perf_counter()
    content: dict[str, Any] = {'schema': SCHEMA, 'program': PROGRAM, 'error': None}
    try:
        yield content
    except BaseException as error:
        failure = as_run_error(error, MEMORY_ADVICE)
        content['error'] = error_entry(failure)
        if isinstance(failure, TrainingInterruptedError):
            content['step'] = failure.step
        if failure is error or type(failure) in (RunError, RunInterruptedError):
            raise
        raise failure from error
    finally:
        content['wall_time_s'] = time.perf_counter() - begin
        if path is not None:
            with whole_file(path) as partial:
                partial.write_text(json.dumps(finite(content), indent=1, allow_nan=False) + '\n', encoding='utf-8')
