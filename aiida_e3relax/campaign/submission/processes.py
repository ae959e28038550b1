"""The processes of a campaign as the graph has them now."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiida import orm

from aiida_e3relax.calculations.predict import E3RelaxCalculation
from aiida_e3relax.calculations.train_parameters import TUNING_CHAIN
from aiida_e3relax.campaign.settings import CampaignSettings

LINK = 'campaign'
"""The label of the link from a campaign's settings to each of its processes."""
NETWORK = 'E3RelaxBaseWorkChain'
NETWORK_LABEL = 'batch_{place}'
"""The label of the run of the network for a batch."""
RENEWED_LABEL = 'batch_{place}_generation_{generation}'
"""The same with a model that has learnt in the campaign."""
RENEWED = re.compile(r'batch_(\d+)_generation_(\d+)')
ROUND = TUNING_CHAIN
ROUND_LABEL = 'round_{number}_after_{count}'
"""The label of a round of learning: which it is, and after how many finished relaxations."""
ROUND_OF = re.compile(r'round_(\d+)_after_(\d+)')


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
WITHOUT_REMEDY = {
    E3RelaxCalculation.exit_codes[name].status
    for name in (
        'ERROR_BAD_INPUT',
        'ERROR_BAD_CHECKPOINT',
        'ERROR_MISSING_PACKAGE',
        'ERROR_SCHEDULER_OUT_OF_WALLTIME',
    )
}
"""Exit statuses of runs of the network that end in the same way when they are repeated, until somebody mends it."""
FLAGS = ('attributes.paused', 'attributes.sealed')
COLUMNS = (
    *('id', 'uuid', 'label'),
    *(f'attributes.{name}' for name in ('process_label', 'process_state', 'exit_status', 'exit_message')),
    *(*FLAGS, 'ctime', 'mtime'),
)
"""What is read of a process, in the order of the fields of `Process`."""
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
    is_sealed: bool
    began: datetime.datetime
    changed: datetime.datetime

    @property
    def state(self) -> State:
        """What became of it."""
        return find_state(self.process_state, self.exit_status, self.is_sealed)


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
    renewed
        The runs of the network on what was left of a batch with a model that has learnt in the campaign, by the place
        of the batch and the generation of the model.
    rounds
        Those in which the model learns.
    """

    networks: dict[int, list[Process]]
    chains: dict[str, list[Process]]
    foreign: tuple[Process, ...] = ()
    renewed: Mapping[tuple[int, int], list[Process]] = dataclasses.field(default_factory=dict)
    rounds: tuple[Process, ...] = ()

    def network_tries(self, place: int, generation: int = 0) -> list[Process]:
        """Return the runs of the network for a batch, with the model of a generation."""
        return self.renewed.get((place, generation), []) if generation else self.networks[place]

    def network_state(self, place: int, generation: int = 0) -> State:
        """Return what became of a batch."""
        return last_state(self.network_tries(place, generation))

    def has_no_report(self, place: int, generation: int = 0) -> bool:
        """Return whether the last run of the network for a batch failed as a whole, and said nothing on structures."""
        tries = self.network_tries(place, generation)
        return last_state(tries) in UNSUCCESSFUL and tries[-1].exit_status != ALL_STRUCTURES_FAILED

    def is_worth_repeating(self, place: int, generation: int = 0) -> bool:
        """Return whether the last run of the network for a batch may end otherwise when nothing is mended."""
        tries = self.network_tries(place, generation)
        return not tries or tries[-1].exit_status not in WITHOUT_REMEDY

    def runs_with_report(self, place: int, generation: int) -> list[Process]:
        """Return the last run for a batch of each generation up to this one that has a report, the newest first."""
        return [
            self.network_tries(place, number)[-1]
            for number in range(generation, -1, -1)
            if self.network_state(place, number) not in (State.WAITING, State.RUNNING)
            and not self.has_no_report(place, number)
        ]

    def last_run(self, place: int, generation: int) -> Process:
        """Return the last run for a batch of the newest generation up to this one that has any."""
        return next(tries[-1] for n in range(generation, -1, -1) if (tries := self.network_tries(place, n)))

    def newest_state(self, place: int, generation: int) -> State:
        """Return what became of a batch with the newest generation up to this one that it was given to."""
        tries = (self.network_tries(place, number) for number in range(generation, -1, -1))
        return last_state(next((each for each in tries if each), []))

    @property
    def running_networks(self) -> list[Process]:
        """The runs of the network that have not ended."""
        tries = (*self.networks.values(), *self.renewed.values())
        return [process for some in tries for process in some if process.state is State.RUNNING]

    @property
    def running_chains(self) -> list[Process]:
        """The chains that have not ended."""
        return [chain for tries in self.chains.values() for chain in tries if chain.state is State.RUNNING]

    def chain_state(self, label: str) -> State:
        """Return what became of a structure."""
        return last_state(self.chains[label])

    @property
    def everything(self) -> list[Process]:
        """All of them but the foreign ones."""
        tries = [*self.networks.values(), *self.renewed.values(), *self.chains.values(), self.rounds]
        return [process for some in tries for process in some]

    @property
    def running(self) -> list[Process]:
        """Those that have not ended."""
        return [process for process in self.everything if process.state is State.RUNNING]


class LinkedProcesses:
    """The processes that are linked to the settings in `node`, for whoever looks at them time and again.

    Those that are sealed are kept: AiiDA changes none, so that a look takes about as long as there are others. They are
    told by UUID, as SQLite gives the PK of a process that was deleted to the next one.
    """

    def __init__(self, node: orm.Dict):
        self._node = node
        self._sealed: dict[str, Process] = {}

    def read(self) -> list[Process]:
        """Return them as they are now, oldest first, in a query of which there are and one of those that are not kept.

        One that was deleted between the queries is none of them.
        """
        there = dict(_linked_query(self._node, ['uuid', 'id']).iterall(batch_size=10_000))
        others = self._read([pk for uuid, pk in there.items() if uuid not in self._sealed])
        self._sealed = {uuid: process for uuid, process in self._sealed.items() if uuid in there}
        found = [self._sealed.get(uuid) or others.get(uuid) for uuid in there]
        self._sealed |= {process.uuid: process for process in others.values() if process.is_sealed}
        return [process for process in found if process]

    def _read(self, pks: Sequence[int]) -> dict[str, Process]:
        if not pks:
            return {}
        # At the first look they are all: PostgreSQL takes many times longer with the list of them than without it.
        filters = {'id': {'in': pks}} if self._sealed else {}
        processes = map(_make_process, _linked_query(self._node, COLUMNS, filters).all())
        return {process.uuid: process for process in processes}


def read_processes(settings: CampaignSettings, node: orm.Dict) -> CampaignProcesses:
    """Return the processes linked to a campaign's settings, in one query."""
    return sort_processes(settings, linked_processes(node))


def sort_processes(settings: CampaignSettings, linked: Iterable[Process]) -> CampaignProcesses:
    """Return the processes linked to a campaign's settings by what they are for."""
    networks: dict[int, list[Process]] = {place: [] for place in range(len(settings.batches))}
    chains: dict[str, list[Process]] = {label: [] for label in settings.structures}
    renewed: dict[tuple[int, int], list[Process]] = {}
    rounds: list[Process] = []
    of_network: dict[str, Any] = {NETWORK_LABEL.format(place=place): tries for place, tries in networks.items()}
    foreign: list[Process] = []
    for process in linked:
        if process.process_label == ROUND:
            (rounds if ROUND_OF.fullmatch(process.label) else foreign).append(process)
        elif process.process_label != NETWORK:
            chains.get(process.label, foreign).append(process)
        elif (found := RENEWED.fullmatch(process.label)) and int(found[1]) in networks:
            renewed.setdefault((int(found[1]), int(found[2])), []).append(process)
        else:
            of_network.get(process.label, foreign).append(process)
    return CampaignProcesses(networks, chains, tuple(foreign), renewed, tuple(rounds))


def linked_processes(node: orm.Dict, process_label: str | None = None) -> list[Process]:
    """Return the processes to which the settings in `node` are linked as `LINK`, oldest first, in one query.

    Those of a `process_label` alone where one is given.
    """
    filters = {'attributes.process_label': process_label} if process_label else {}
    return [_make_process(row) for row in _linked_query(node, COLUMNS, filters).all()]


def _linked_query(node: orm.Dict, project: Sequence[str], filters: Mapping[str, Any] | None = None) -> orm.QueryBuilder:
    query = orm.QueryBuilder().append(orm.Dict, filters={'id': node.pk}, tag='settings')
    query.append(
        orm.WorkChainNode,
        with_incoming='settings',
        edge_filters={'label': LINK},
        filters=dict(filters or {}),
        project=list(project),
        tag='process',
    )
    return query.order_by({'process': {'id': 'asc'}})


def _make_process(row: Sequence[Any]) -> Process:
    """Return the process in a row of `COLUMNS`."""
    values: list[Any] = [bool(value) if name in FLAGS else value for name, value in zip(COLUMNS, row, strict=True)]
    return Process(*values)


def find_state(process_state: str | None, exit_status: int | None, is_sealed: bool) -> State:
    """Return what became of a process with these attributes.

    What is sealed has ended, whatever its state says: where RabbitMQ was restarted, a second worker begins the process
    from its checkpoint beside the first one, and writes a state over the last one. Nothing goes on with it then.
    """
    if process_state == 'finished' or (is_sealed and exit_status is not None):
        return State.FAILED if exit_status else State.FINISHED
    if process_state in ('excepted', 'killed'):
        return State(process_state)
    return State.EXCEPTED if is_sealed else State.RUNNING


def last_state(tries: list[Process]) -> State:
    """Return what became of what was tried these times."""
    return tries[-1].state if tries else State.WAITING
