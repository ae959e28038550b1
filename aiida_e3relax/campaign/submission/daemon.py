"""The daemon of the profile, which may be stopped and started while a campaign is submitted."""

from __future__ import annotations

import psutil
from aiida.engine.daemon.client import DaemonException, get_daemon_client
from aiida.manage import get_manager


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
