"""Locks of files, which end with the processes that hold them. Needs no torch."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What file systems of clusters answer that know no locks."""


@contextlib.contextmanager
def file_lock(path: Path, wait: bool = False, needs_locks: bool = True) -> Iterator[int | None]:
    """Hold the lock file at `path`, for as long as any process has the descriptor that is yielded.

    None is yielded where another process holds it, unless it is to `wait`. Without `needs_locks` a file system that has
    none counts as one where nobody holds it; else that is an OSError.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield None
            return
        except OSError as error:
            if needs_locks or error.errno not in NO_LOCKS:
                raise
        yield descriptor
    finally:
        os.close(descriptor)
