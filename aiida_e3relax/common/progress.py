"""A progress line on stderr that needs nothing but the standard library: a GPU node may hold PyTorch alone."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from aiida_e3relax.common.interrupts import raise_if_terminated

T = TypeVar('T')

_SECONDS_BETWEEN = {True: 0.2, False: 10.0}  # on a terminal one line is rewritten; in a log lines add up


def progress(items: Sequence[T], title: str) -> Iterator[T]:
    """Yield `items` while a line on stderr says how far it is and how long the rest takes; no items, no line."""
    if len(items) == 0:
        return
    bar = ProgressLine(title, len(items))
    for item in items:
        yield item
        bar.advance()
    bar.close()


class ProgressLine:
    """``title  12/100  00:03 elapsed, 00:22 left  note``; without the total where that is not known."""

    def __init__(self, title: str, total: int | None, done: int = 0):
        self.title, self.total, self.done = title, total, done
        self._first, self._start, self._shown = done, time.monotonic(), -1e9
        self._terminal = sys.stderr.isatty()

    def advance(self, count: int = 1, note: str = '') -> None:
        """Count `count` items as done; show it when the last line is old enough.

        Raises Terminated after a SIGTERM that was to end the work and that a library dropped.
        """
        raise_if_terminated()
        self.done += count
        now = time.monotonic()
        if now - self._shown >= _SECONDS_BETWEEN[self._terminal]:
            self._shown = now
            self._write(note)

    def close(self, note: str = '') -> None:
        """Show the last state and end the line."""
        self._write(note)
        if self._terminal:
            sys.stderr.write('\n')

    def say(self, text: str) -> None:
        """Write `text` as a line of its own."""
        sys.stderr.write(f'\r\x1b[K{text}\n' if self._terminal else f'{text}\n')

    def _write(self, note: str) -> None:
        elapsed = time.monotonic() - self._start
        fresh = self.done - self._first
        rate = f', {fresh / elapsed:.3g}/s' if fresh and elapsed else ''
        total = '' if self.total is None else f'/{self.total}'
        left = ''
        if self.total is not None and 0 < fresh < self.total:
            left = f', {_clock(elapsed / fresh * (self.total - self.done))} left'
        line = f'{self.title}  {self.done}{total}  {_clock(elapsed)} elapsed{rate}{left}  {note}'.rstrip()
        sys.stderr.write(f'\r\x1b[K{line}' if self._terminal else f'{line}\n')
        sys.stderr.flush()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02d}:{seconds:02d}' if hours else f'{minutes:02d}:{seconds:02d}'


class NoProgress(ProgressLine):
    """A line that nobody sees, for a library that is called by others."""

    def __init__(self) -> None:
        super().__init__('', None)

    def say(self, text: str) -> None:
        """Write nothing."""

    def _write(self, note: str) -> None:
        """Write nothing."""

    def close(self, note: str = '') -> None:
        """Write nothing."""
