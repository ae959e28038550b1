"""The processes of a campaign as the graph has them now."""

from __future__ import annotations

import dataclasses
import datetime
import enum
from typing import Any

from aiida import orm

from aiida_e3relax.calculations.predict import E3RelaxCalculation
from aiida_e3relax.campaign.settings import CampaignSettings

LINK = 'campaign'
"""The label of the link from a campaign's settings to each of its processes."""
NETWORK = 'E3RelaxBaseWorkChain'
NETWORK_LABEL = 'batch_{place}'
"""The label of the run of the network for a batch."""


class State(enum.StrEnum):
    """What became of a structure, or of a batch."""

    WAITING = 'waiting'
    """Not submitted."""
    RUNNING = 'running'
    FINISHED = 'finished'
    """With exit status 0."""
    FAILED = 'failed'
    """With another exit status."""
    EXCEPTED = 'excepted'
    KILLED = 'killed'


ALL_STRUCTURES_FAILED = E3RelaxCalculation.exit_codes.ERROR_ALL_STRUCTURES_FAILED.status
"""The exit status of a run of the network that has a report, which says of each structure why it has no prediction."""
UNSUCCESSFUL = (State.FAILED, State.EXCEPTED, State.KILLED)


@dataclasses.dataclass(frozen=True)
class Process:
    """A process of a campaign: a run of the network, or a chain."""

    pk: int
    uuid: str
    label: str
    process_label: str
    process_state: str | None
    exit_status: int | None
    exit_message: str | None
    is_paused: bool
    began: datetime.datetime
    changed: datetime.datetime

    @property
    def state(self) -> State:
        """What became of it."""
        return find_state(self.process_state, self.exit_status)


@dataclasses.dataclass(frozen=True)
class CampaignProcesses:
    """The processes of a campaign, oldest first.

    Attributes
    ----------
    networks
        By the place of the batch.
    chains
        By the label of the structure.
    foreign
        Those that are linked to the campaign's settings and whose label is none of its batches' and structures', such
        as chains that somebody submitted by hand; they count nowhere.
    """

    networks: dict[int, list[Process]]
    chains: dict[str, list[Process]]
    foreign: tuple[Process, ...] = ()

    def network_state(self, place: int) -> State:
        """Return what became of a batch."""
        return last_state(self.networks[place])

    def has_no_report(self, place: int) -> bool:
        """Return whether the last run of the network for a batch failed as a whole, and said nothing on structures."""
        state = self.network_state(place)
        return state in UNSUCCESSFUL and self.networks[place][-1].exit_status != ALL_STRUCTURES_FAILED

    def chain_state(self, label: str) -> State:
        """Return what became of a structure."""
        return last_state(self.chains[label])

    @property
    def running(self) -> list[Process]:
        """Those that have not ended."""
        everything = [*self.networks.values(), *self.chains.values()]
        return [process for tries in everything for process in tries if process.state is State.RUNNING]


def read_processes(settings: CampaignSettings, node: orm.Dict) -> CampaignProcesses:
    """Return the processes linked to a campaign's settings, in one query."""
    networks: dict[int, list[Process]] = {place: [] for place in range(len(settings.batches))}
    chains: dict[str, list[Process]] = {label: [] for label in settings.structures}
    of_network: dict[str, Any] = {NETWORK_LABEL.format(place=place): tries for place, tries in networks.items()}
    foreign: list[Process] = []
    for process in linked_processes(node):
        of_kind: dict[str, Any] = of_network if process.process_label == NETWORK else chains
        of_kind.get(process.label, foreign).append(process)
    return CampaignProcesses(networks, chains, tuple(foreign))


def linked_processes(node: orm.Dict) -> list[Process]:
    """Return the processes to which the settings in `node` are linked as `LINK`, oldest first, in one query."""
    query = orm.QueryBuilder().append(orm.Dict, filters={'id': node.pk}, tag='settings')
    names = ('process_label', 'process_state', 'exit_status', 'exit_message', 'paused')
    query.append(
        orm.WorkChainNode,
        with_incoming='settings',
        edge_filters={'label': LINK},
        project=['id', 'uuid', 'label', *(f'attributes.{name}' for name in names), 'ctime', 'mtime'],
        tag='process',
    )
    query.order_by({'process': {'id': 'asc'}})
    return [
        Process(pk, uuid, label, process_label, state, status, message, bool(paused), ctime, mtime)
        for pk, uuid, label, process_label, state, status, message, paused, ctime, mtime in query.all()
    ]


def find_state(process_state: str | None, exit_status: int | None) -> State:
    """Return what became of a process with these attributes."""
    if process_state == 'finished':
        return State.FAILED if exit_status else State.FINISHED
    return State(process_state) if process_state in ('excepted', 'killed') else State.RUNNING


def last_state(tries: list[Process]) -> State:
    """Return what became of what was tried these times."""
    return tries[-1].state if tries else State.WAITING
