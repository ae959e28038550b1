"""The report of a call of ``e3relax train`` or ``finetune``, for programs: how it ended, in JSON. Needs no torch."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aiida_e3relax.common.errors import RunError, RunInterruptedError, TrainingInterruptedError
from aiida_e3relax.common.output_files import writing
from aiida_e3relax.common.run_errors import as_run_error, error_entry
from aiida_e3relax.common.strict_json import finite

SCHEMA = 1
MEMORY_ADVICE = 'give a smaller batch_size, a smaller model, or a larger device'


@contextlib.contextmanager
def training_report(path: Path | None) -> Iterator[dict[str, Any]]:
    """Yield the facts of a run, to be filled in, and write them to `path` when it ends, well or not.

    An exception that ends it stands there as `error`, with its code, message and exit status. It is raised as the
    `RunError` that it means; one that nobody expected, as it is.
    """
    begin = time.perf_counter()
    content: dict[str, Any] = {'schema': SCHEMA, 'program': 'e3relax', 'error': None}
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
            with writing(path):
                path.write_text(json.dumps(finite(content), indent=1, allow_nan=False) + '\n', encoding='utf-8')
