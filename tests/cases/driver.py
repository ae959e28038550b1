"""Runs commands one after the other in one process, bounded in time and memory, and prints how each ended as JSON.

Started as a process of its own: a signal in native code, which would end the tests, ends this alone.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import resource
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

MEMORY = 12 << 30
"""In bytes of address space; importing torch takes about 4 GiB of it."""


def run(program: str, arguments: list[str], folder: str, seconds: int) -> dict[str, Any]:
    """Return exit status and output of the `main` of a module; a traceback, or the time running out, is `crash`."""
    main = importlib.import_module(program).main
    stdout, stderr = io.StringIO(), io.StringIO()
    crash = None
    os.chdir(folder)
    signal.alarm(seconds)
    argv, sys.argv = sys.argv, [program, *arguments]
    try:
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            status = main(arguments)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            stderr.write(end.code)
    except BaseException:
        status, crash = None, traceback.format_exc()
    finally:
        signal.alarm(0)
        sys.argv = argv
    return {'status': status or 0, 'stdout': stdout.getvalue(), 'stderr': stderr.getvalue(), 'crash': crash}


def give_up(*_: object) -> None:
    """Interrupt a command that takes too long."""
    raise TimeoutError('the time ran out')


if __name__ == '__main__':
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    signal.signal(signal.SIGALRM, give_up)
    for job in json.loads(Path(sys.argv[1]).read_text(encoding='utf-8')):
        with Path(sys.argv[2]).open('a', encoding='utf-8') as results:
            results.write(
                json.dumps(
                    {'name': job['name']} | run(*(job[key] for key in ('program', 'arguments', 'folder', 'seconds')))
                )
                + '\n'
            )
