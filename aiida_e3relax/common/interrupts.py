"""SIGTERM, by which schedulers and daemons end a run. Needs no torch."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


class Terminated(KeyboardInterrupt):
    """The run was ended from outside."""

    def __str__(self) -> str:
        return 'ended by SIGTERM'


_arrived: list[bool] = []  # SIGTERM, within `sigterm_as_interrupt`


def raise_if_terminated() -> None:
    """Raise Terminated where SIGTERM has come within `sigterm_as_interrupt`, for loops to call.

    Python drops an exception that a signal raises within ``__del__``, and libraries drop some: the work goes on.
    """
    if _arrived:
        raise Terminated


@contextlib.contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM end the work within as Ctrl+C does, so that reports are written and partial files removed.

    Only the first one: what follows while that is done is ignored. Does nothing outside of the main thread. What it
    raises in the middle of a library may come out as another exception: whatever leaves the block is Terminated.

    Raises
    ------
    Terminated
        After SIGTERM.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _arrived.append(True)
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except BaseException as error:
        if _arrived and not isinstance(error, Terminated):
            raise Terminated from error
        raise
    finally:
        _arrived.clear()
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def sigterm_as_request() -> Iterator[Callable[[], bool]]:
    """Keep SIGTERM for later: the function that is yielded says whether it has come, so that the work ends in order.

    Outside of the main thread it never says so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    requests = []
    before = signal.signal(signal.SIGTERM, lambda *_: requests.append(True))
    try:
        yield lambda: bool(requests)
    finally:
        signal.signal(signal.SIGTERM, before)
