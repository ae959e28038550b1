"""Check every path of the network on a GPU against the processor, and time it: one command, eight minutes at most.

    python -m benchmarks.gpu --output gpu                       # on a machine with a GPU
    python -m benchmarks.gpu --output gpu --device cpu --small  # without one, in seconds: does the script work?
    python -m benchmarks.gpu --output gpu --only kernels graphs

Writes `results.json` and `results.md` into the folder, anew after each check, and ends with 1 where one has failed. A
check that fails, hangs or takes its process down does not keep the others from being done: they go on in another
process. What does not fit into `--minutes` is told as not done. On a GPU all of it, with potentials, is to take three
to five minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import json
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

CHECKS = {
    'hardware': 60,
    'neighbours': 60,
    'engine': 150,
    'kernels': 120,
    'graphs': 120,
    'harmonics': 120,
    'fixed': 60,
    'batches': 150,
    'symmetry': 60,
    'memory': 90,
    'training': 90,
    'bfloat16': 60,
    'devices': 60,
    'program': 60,
    'potentials': 150,
}
"""The functions of `gpu_checks`, and the seconds after which each is broken off."""
NOT_DONE = 'not done'
LOADING = 90
"""Seconds that a process may take to load PyTorch."""


@dataclasses.dataclass
class Result:
    """What came of a check.

    Attributes
    ----------
    name, state
        `state` is passed, failed, skipped or `not done`.
    seconds
        That it took.
    message
        Why it failed or was skipped.
    deviations
        What was compared, by how much it differs at most, and what is allowed.
    times
        What was timed, in seconds, and how many crystals or steps that is a second.
    facts
        What else was found.
    """

    name: str
    state: str
    seconds: float = 0.0
    message: str = ''
    deviations: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    times: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)


class Worker:
    """A process that does one check after the other, and is started anew where one has failed."""

    def __init__(self, device: str, is_small: bool):
        self._device, self._is_small = device, is_small
        self._process: Any = None
        self._connection: Connection | None = None

    def do(self, name: str, seconds: float, end: float) -> Result:
        """Return what comes of a check within so many seconds, without the start of a process, and before `end`."""
        start = time.perf_counter()
        if start >= end:
            return Result(name, NOT_DONE)
        try:
            connection = self._start()
            start = time.perf_counter()
            seconds = max(0.0, min(seconds, end - start))
            connection.send(name)
            if not connection.poll(seconds):
                self.stop()
                return Result(name, 'failed', seconds, f'not done within {seconds:.0f} s')
            result = connection.recv()
        except (EOFError, OSError):
            self._process.join(5)
            code = self._process.exitcode
            result = Result(name, 'failed', time.perf_counter() - start, f'its process ended, exit code {code}')
        if result.state == 'failed':
            self.stop()  # an error of CUDA stays with its process
        return result

    def _start(self) -> Connection:
        """Return the connection to a process that waits for work; ends the program where none can be started."""
        if self._connection is None:
            context = multiprocessing.get_context('spawn')
            self._connection, there = context.Pipe()
            self._process = context.Process(target=work, args=(there, self._device, self._is_small))
            self._process.start()
            there.close()
            try:
                if not self._connection.poll(LOADING):
                    raise EOFError
                self._connection.recv()
            except EOFError as error:
                raise SystemExit('the checks cannot be loaded, see above') from error
        return self._connection

    def close(self) -> None:
        """Let the process end that waits for work, if there is one."""
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.send(None)
            self._process.join(10)
        self.stop()

    def stop(self) -> None:
        """End the process, if there is one, whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None


def work(connection: Connection, device: str, is_small: bool) -> None:
    """Do the checks that are asked for, in a process of their own."""
    if device == 'cpu':
        os.environ['TRITON_INTERPRET'] = '1'  # heeded when triton is imported
    from benchmarks import gpu_checks

    connection.send(None)
    while name := connection.recv():
        connection.send(gpu_checks.perform(name, device, is_small))


def describe(results: Sequence[Result], seconds: float) -> str:
    """Return all results as Markdown."""
    facts = next((result.facts for result in results if result.name == 'hardware'), {})
    lines = [
        f'{datetime.date.today()}, {platform.platform()}, Python {platform.python_version()}, {seconds:.0f} s in all.',
        '',
        *(f'- {name}: {value}' for name, value in facts.items()),
        '',
        '| check | | s | largest deviation, of what is allowed | |',
        '|---|---|---|---|---|',
    ]
    for result in results:
        worst = max(result.deviations, key=lambda one: one['found'] / max(one['allowed'], 1e-300), default=None)
        told = '' if worst is None else f'{worst["found"]:.1e} of {worst["allowed"]:.0e}: {worst["what"]}'
        lines.append(f'| {result.name} | {result.state} | {result.seconds:.1f} | {told} | {result.message} |')
    lines += ['', '| timed | s | a second |', '|---|---|---|']
    for result in results:
        lines += [f'| {one["what"]} | {one["seconds"]:.4g} | {one["per_second"]:.4g} |' for one in result.times]
    return '\n'.join(lines) + '\n'


def write(folder: Path, results: Sequence[Result], seconds: float, options: argparse.Namespace) -> None:
    """Write what has been found so far."""
    content = {
        'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
        'platform': platform.platform(),
        'python': platform.python_version(),
        'device': options.device,
        'small': options.small,
        'seconds': seconds,
        'checks': [dataclasses.asdict(result) for result in results],
    }
    (folder / 'results.json').write_text(json.dumps(content, indent=1), encoding='utf-8')
    (folder / 'results.md').write_text(describe(results, seconds), encoding='utf-8')


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the checks and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--output', type=Path, required=True, help='the folder of the results')
    parser.add_argument('--device', default='cuda', help='default: %(default)s')
    parser.add_argument('--small', action='store_true', help='few and small crystals, nothing repeated')
    parser.add_argument(
        '--only', nargs='+', choices=CHECKS, default=list(CHECKS), metavar='CHECK', help=' '.join(CHECKS)
    )
    parser.add_argument(
        '--minutes', type=float, default=7.5, help='after which no check goes on (default: %(default)s)'
    )
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    begin, results = time.perf_counter(), []
    worker = Worker(options.device, options.small)
    try:
        for name in options.only:
            result = worker.do(name, CHECKS[name], begin + 60 * options.minutes)
            results.append(result)
            print(f'{name}: {result.state}, {result.seconds:.1f} s {result.message}'.rstrip(), flush=True)
            write(options.output, results, time.perf_counter() - begin, options)
    finally:
        worker.close()
    print(f'\n{describe(results, time.perf_counter() - begin)}')
    return int(any(result.state in ('failed', NOT_DONE) for result in results))


if __name__ == '__main__':
    sys.exit(main())
