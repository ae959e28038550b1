"""The lock of a campaign: one process submits for it at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from aiida import orm
from aiida.manage import get_manager
from aiida.manage.configuration import get_config
from aiida.manage.configuration.profile import Profile

from aiida_e3relax.common.messages import printable

POSTGRESQL = 'core.psql_dos'
KEEPALIVE = {'tcp_keepalives_idle': 30, 'tcp_keepalives_interval': 10, 'tcp_keepalives_count': 3}
"""In s: the server lets go of a lock about a minute after the computer that held it has vanished."""
HELD = (
    "locktype = 'advisory' AND granted AND (classid::bigint << 32 | objid::bigint) = :key "
    'AND database = (SELECT oid FROM pg_database WHERE datname = current_database())'
)
"""Of a row in `pg_locks`: that it is the lock `key` of this database's."""


class CampaignLockedError(Exception):
    """Another process submits for the campaign; the message says which."""


class LockLostError(Exception):
    """The connection to the database that held the lock has broken."""


def describe_lost_database(error: Exception) -> str:
    """Return what a person does after an error of the database, by LockLostError or of SQLAlchemy.

    The workers of a daemon do not connect to PostgreSQL again: whatever they do from then on fails, and is not stored.
    """
    from sqlalchemy.exc import InterfaceError, OperationalError

    reason = printable(str(error.__cause__ or error).partition('\n')[0])
    profile = get_manager().get_profile()
    in_postgresql = profile is not None and profile.storage_backend == POSTGRESQL
    if not in_postgresql or not isinstance(error, LockLostError | OperationalError | InterfaceError):
        return (
            f'the database failed ({reason}). What is submitted goes on as far as the database lets it; give this '
            'command again when that is mended'
        )
    return (
        f'the database does not answer any more ({reason}). Once it is there, start the daemon anew, since its workers '
        'do not connect again: `verdi daemon stop`, `verdi process repair`, `verdi daemon start`; then give this '
        'command again, with --retry-failed where chains ended with an exception'
    )


@contextlib.contextmanager
def lock(group: orm.Group) -> Iterator[Callable[[], None]]:
    """Hold the right to submit for a campaign, or a validation, among all who use its database, from whatever computer.

    The lock goes with the process that holds it, however that ends. In PostgreSQL it belongs to a connection: an
    advisory lock. An SQLite database is in a folder of one computer, and so is a locked file beside it.

    Yields
    ------
    A function that raises LockLostError unless the lock is still held; to be called before each submission.

    Raises
    ------
    CampaignLockedError
        When another process holds it.
    """
    profile = get_manager().get_profile()
    assert profile is not None  # the group is one of its nodes
    of_storage = _lock_in_postgresql if profile.storage_backend == POSTGRESQL else _lock_file
    with of_storage(profile, group.uuid) as confirm:
        yield confirm


@contextlib.contextmanager
def _lock_in_postgresql(profile: Profile, uuid: str) -> Iterator[Callable[[], None]]:
    from aiida.storage.psql_dos.utils import create_sqlalchemy_engine
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    key = int.from_bytes(UUID(uuid).bytes[:8], signed=True)
    engine = create_sqlalchemy_engine(profile.storage_config)  # type: ignore[arg-type]
    try:
        # Each statement by itself: a transaction left open for days would keep the database from cleaning up.
        with engine.connect().execution_options(isolation_level='AUTOCOMMIT') as connection:

            def ask(statement: str, **values: Any) -> Any:
                return connection.execute(text(statement), values).scalar()

            for name, value in KEEPALIVE.items():
                ask('SELECT set_config(:name, :value, false)', name=name, value=str(value))
            ask("SELECT set_config('application_name', :holder, false)", holder=_describe_this_process())
            if not ask('SELECT pg_try_advisory_lock(:key)', key=key):
                holder = f'SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE {HELD}'
                raise CampaignLockedError(ask(holder, key=key) or 'unknown')

            def confirm() -> None:
                try:
                    is_held = ask(f'SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND {HELD}', key=key)
                except SQLAlchemyError as error:
                    raise LockLostError from error
                if not is_held:
                    raise LockLostError

            yield confirm
    finally:
        engine.dispose()  # closes the connection, and with it the lock


@contextlib.contextmanager
def _lock_file(profile: Profile, uuid: str) -> Iterator[Callable[[], None]]:
    folder = Path(profile.storage_config.get('filepath') or Path(get_config().dirpath) / 'access')
    with (folder / f'e3relax-campaign-{uuid}.lock').open('a+', encoding='utf-8') as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            handle.seek(0)
            raise CampaignLockedError(handle.read() or 'unknown') from error
        handle.truncate(0)
        handle.write(_describe_this_process())
        handle.flush()
        yield lambda: None


def _describe_this_process() -> str:
    return f'{socket.gethostname()[:40]}, process {os.getpid()}'  # PostgreSQL keeps 63 bytes of it
