"""The daemon of the profile, which may be stopped and started while a campaign is submitted, and what it is given."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import psutil
from aiida.engine import submit
from aiida.engine.daemon.client import DaemonException, get_daemon_client
from aiida.manage import get_manager

NO_DAEMON = 'no daemon runs, so nothing can: start one with `verdi daemon start`'


class Daemon:
    """Tells whether a daemon runs, and connects again when it has been restarted."""

    def __init__(self) -> None:
        self._client = get_daemon_client()
        self._pid = self._client.get_daemon_pid()

    def count_workers(self) -> int:
        """Return the number of workers; 0 when no daemon answers, and one that was killed does not."""
        pid = self._client.get_daemon_pid()
        if pid is None or not psutil.pid_exists(pid):
            return 0
        if pid != self._pid:
            self._pid = pid
            # The broker of a new daemon listens elsewhere.
            get_manager().reset_runner()
            get_manager().reset_broker()
        try:
            return self._client.get_number_of_workers()
        except DaemonException:
            return 0


def find_room(workers: int, max_running: int, running: int, slots_each: int, slots_taken: int = 0) -> int:
    """Return how many more processes the workers have room for; one at least runs, however few slots there are.

    Parameters
    ----------
    workers
        Of the daemon.
    max_running, running
        How many may run at the same time, and how many do.
    slots_each
        The slots of the daemon that each takes, with the processes it calls.
    slots_taken
        By processes of another kind; while there are some, one of these need not run.
    """
    slots = workers * get_manager().get_option('daemon.worker_process_slots') - slots_taken
    return max(min(max_running, slots // slots_each), 0 if slots_taken else 1) - running


def submit_some(builders: Iterator[Any], most: int, confirm_lock: Callable[[], None]) -> int:
    """Submit at most `most` of the `builders`, each after `confirm_lock`, and return how many."""
    n_submitted = 0
    for builder in itertools.islice(builders, max(most, 0)):
        confirm_lock()
        submit(builder)
        n_submitted += 1
    return n_submitted
