"""SIGTERM ends the work, wherever it comes: in ``__del__``, where Python drops exceptions, and within a library."""

from __future__ import annotations

import signal

import pytest

from aiida_e3relax.common.interrupts import Terminated, sigterm_as_interrupt
from aiida_e3relax.common.progress import NoProgress


class EndedInDel:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)


def test_an_exception_that_python_drops_comes_at_the_next_item(monkeypatch):
    dropped = []
    monkeypatch.setattr('sys.unraisablehook', lambda unraisable: dropped.append(unraisable.exc_type))
    line = NoProgress()

    @sigterm_as_interrupt()
    def work():
        line.advance()
        EndedInDel()
        line.advance()

    with pytest.raises(Terminated, match='ended by SIGTERM'):
        work()
    assert dropped == [Terminated]
    assert line.done == 1


def test_what_a_library_makes_of_it_is_the_cause():
    @sigterm_as_interrupt()
    def work():
        try:
            signal.raise_signal(signal.SIGTERM)
        except Terminated as error:
            raise ValueError('no weights of this size') from error

    with pytest.raises(Terminated) as caught:
        work()
    assert isinstance(caught.value.__cause__, ValueError)


def test_the_next_work_knows_nothing_of_it():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated), sigterm_as_interrupt():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
    with sigterm_as_interrupt():
        NoProgress().advance()
