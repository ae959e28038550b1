"""Jobs that AiiDA has paused: it has tried five times what scheduler or connection refuse, and waits for a person."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from aiida import orm

from aiida_e3relax.campaign.submission.processes import Process


@dataclasses.dataclass(frozen=True)
class PausedJobs:
    """Jobs that are paused for one reason.

    Attributes
    ----------
    reason
        What AiiDA says of it.
    pks
        The jobs, oldest first.
    """

    reason: str
    pks: tuple[int, ...]


def find_paused_jobs(running: Iterable[Process]) -> tuple[PausedJobs, ...]:
    """Return the jobs that are paused among all that `running` processes have called, in a query for each level."""
    callers = [process.pk for process in running]
    found: dict[str, list[int]] = {}
    while callers:
        query = orm.QueryBuilder().append(orm.WorkChainNode, filters={'id': {'in': callers}}, tag='caller')
        columns = ['id', 'node_type', *(f'attributes.{name}' for name in ('sealed', 'paused', 'process_status'))]
        query.append(orm.ProcessNode, with_incoming='caller', project=columns, tag='called')
        callers = []
        for pk, kind, is_sealed, is_paused, status in query.order_by({'called': {'id': 'asc'}}).iterall():
            if is_sealed:
                continue
            if is_paused and kind == orm.CalcJobNode.class_node_type:
                found.setdefault(status or 'no reason is known', []).append(pk)
            elif kind == orm.WorkChainNode.class_node_type:
                callers.append(pk)
    return tuple(PausedJobs(reason, tuple(pks)) for reason, pks in found.items())
