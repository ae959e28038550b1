"""Orphaned submissions: processes that are in the database, and that no daemon will ever hear of.

`submit` stores the process, then its checkpoint, then sends a message to the broker. A kill in between leaves a process
that waits for ever. `verdi process repair` sends such messages again, but only while the daemon is stopped.
"""

from __future__ import annotations

import datetime
import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.brokers.zeromq.broker import ZeromqBroker
from aiida.engine.processes.control import get_process_tasks
from aiida.manage import get_manager
from aiida.tools import delete_nodes
from kiwipy import UnroutableError
from plumpy.process_comms import RemoteProcessThreadController

from aiida_e3relax.campaign.submission.processes import Process

GRACE = datetime.timedelta(seconds=20)
"""How long a message may take to a worker that has room, where the broker tells what the workers have."""
GRACE_OF_TAKEN = datetime.timedelta(minutes=15)
"""How long a worker may take to begin what it has, where it does not: a busy one answers late, and has 200 slots.

RabbitMQ has given a message away then, and does not name it. Sent again, the process would run twice.
"""
LOGGER = logging.getLogger(__name__)


def repair_orphans(processes: Iterable[Process]) -> bool:
    """Send what was stored and not sent, and delete what was stored without a checkpoint, which can never begin.

    Returns whether any was deleted. To be called by the only process that submits `processes`: a submission that is
    under way looks like an orphaned one, which is also why nothing younger than `GRACE` is touched, or, where the
    broker is not AiiDA's own, than `GRACE_OF_TAKEN`.
    """
    broker: Any = get_manager().get_broker()
    latest = datetime.datetime.now(datetime.UTC) - (GRACE if isinstance(broker, ZeromqBroker) else GRACE_OF_TAKEN)
    # A process is stored before its state is.
    late = {
        process.pk for process in processes if process.process_state in (None, 'created') and process.changed < latest
    }
    if not late:
        return False
    controller = get_manager().get_process_controller()
    # The broker first: what is created after it did not know the process cannot have been with a worker meanwhile.
    unknown = late - _known_to_broker(late, broker, controller)
    if not unknown:
        return False
    with_checkpoint = _read_created(unknown)
    for pk in sorted(pk for pk, has_checkpoint in with_checkpoint.items() if has_checkpoint):
        LOGGER.warning('Sending <%d> to the daemon again, since an interrupted submission never did', pk)
        controller.continue_process(pk, nowait=False, no_reply=True)
    return sum(_delete(pk) for pk, has_checkpoint in sorted(with_checkpoint.items()) if not has_checkpoint) > 0


def _read_created(pks: Iterable[int]) -> dict[int, bool]:
    """Return which processes no worker has begun, and whether they have a checkpoint, as they are at one moment.

    In one query: a checkpoint goes away when a process ends, so that asked for later than the state it lacks in a
    process that has finished meanwhile.
    """
    query = orm.QueryBuilder().append(
        orm.ProcessNode,
        filters={'id': {'in': list(pks)}},
        project=['id', 'attributes.process_state', f'attributes.{orm.ProcessNode.CHECKPOINT_KEY}'],
    )
    return {pk: checkpoint is not None for pk, state, checkpoint in query.all() if state in (None, 'created')}


def _delete(pk: int) -> bool:
    """Delete a process without a checkpoint and return whether it is gone; one that others depend on stays."""
    LOGGER.warning('Deleting <%d>, stored by an interrupted submission that left no checkpoint', pk)
    _, is_deleted = delete_nodes([pk], dry_run=lambda pks: set(pks) != {pk})
    return is_deleted


def _known_to_broker(pks: Iterable[int], broker: Any, controller: RemoteProcessThreadController) -> set[int]:
    """Return which processes are in the queue or with a worker."""
    if isinstance(broker, ZeromqBroker):
        return _read_tasks(broker._storage_path / 'tasks')
    return set(get_process_tasks(broker)) | {pk for pk in pks if _answers(pk, controller)}


def _read_tasks(folder: Path) -> set[int]:
    """Return the processes with a message in the queue of AiiDA's ZeroMQ broker, taken by a worker or not.

    `Broker.iterate_tasks` is for a broker that is stopped: it takes the messages of the workers from them.
    """
    known = set()
    for path in folder.glob('*/*.json'):
        try:
            task = json.loads(path.read_text(encoding='utf-8'))
        except FileNotFoundError:  # done, or handed from the queue to a worker, since its process changed its state
            continue
        if isinstance(pid := task.get('body', {}).get('args', {}).get('pid'), int):
            known.add(pid)
    return known


def _answers(pk: int, controller: RemoteProcessThreadController) -> bool:
    """Return whether a worker has the process."""
    try:
        controller.get_status(pk)
    except UnroutableError:
        return False
    return True
