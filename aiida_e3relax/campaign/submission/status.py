"""The status of a campaign: how many structures are waiting, running, finished and failed."""

from __future__ import annotations

import dataclasses
import datetime
from collections import Counter

from aiida_e3relax.campaign.group import CampaignGroup
from aiida_e3relax.campaign.plan import read_plan
from aiida_e3relax.campaign.rounds.due import RoundDue
from aiida_e3relax.campaign.rounds.history import History
from aiida_e3relax.campaign.submission.due import Due, Look, look_at
from aiida_e3relax.campaign.submission.paused import PausedJobs, find_paused_jobs
from aiida_e3relax.campaign.submission.processes import UNSUCCESSFUL, CampaignProcesses, Process, State

RECENT = 50
"""The number of chains, the last that ended, from which durations are taken."""


@dataclasses.dataclass(frozen=True)
class FailedChains:
    """A way in which chains ended without success.

    Attributes
    ----------
    name
        The exit code, `excepted` or `killed`.
    labels
        The structures.
    pk, message
        Of the first of them.
    """

    name: str
    labels: list[str]
    pk: int
    message: str


@dataclasses.dataclass(frozen=True)
class Held:
    """A batch for which the network failed as a whole, and whose structures are held back.

    Attributes
    ----------
    label, pk
        Of the last run of the network.
    n_structures
        That wait for it.
    reason
        What it said.
    """

    label: str
    pk: int
    n_structures: int
    reason: str


@dataclasses.dataclass(frozen=True)
class Waiting:
    """The structures of an arm whose chains wait for raw legs.

    Attributes
    ----------
    base
        The campaign that relaxes the raw crystals.
    n_structures
        That wait until somebody runs it; none where that is done beside the arm.
    n_held
        That wait because theirs is held back, or lost with a chain that was killed or stopped by an exception.
    """

    base: str
    n_structures: int
    n_held: int


@dataclasses.dataclass(frozen=True)
class Learning:
    """How the model of a campaign learns.

    Attributes
    ----------
    history, due
        The rounds, and whether another one is due.
    holds
        Whether no chain starts until a round has ended.
    fault
        Why the last round that was due could not be submitted; empty where all goes well.
    not_predicted
        The last runs of the network that failed as a whole for the newest model, where older predictions serve.
    has_missed
        Whether all structures have begun before a round was made.
    """

    history: History
    due: RoundDue
    holds: bool
    fault: str
    not_predicted: tuple[Process, ...] = ()
    has_missed: bool = False


@dataclasses.dataclass(frozen=True)
class Status:
    """The numbers of a campaign at one moment.

    Attributes
    ----------
    name
        The campaign.
    chains, networks
        How many structures and batches are in which state; of several tries the last counts.
    is_paused, max_running
        As the group says.
    chains_per_hour
        The chains that run now, by how long recent ones took; None when none runs or none has ended.
    failures
        By exit code, the most frequent first.
    held
        The batches whose structures are held back.
    foreign
        The PKs of processes that are linked to the campaign and are no part of it.
    waiting
        What of an arm waits for raw legs; None where nothing does.
    learning
        How its model learns; None of a campaign whose model never has and was not told to.
    paused_jobs
        What waits for a person, since scheduler or connection refused it again and again.
    """

    name: str
    chains: dict[State, int]
    networks: dict[State, int]
    is_paused: bool
    max_running: int
    n_retried: int
    chains_per_hour: float | None
    failures: list[FailedChains]
    held: list[Held]
    foreign: list[int]
    waiting: Waiting | None = None
    learning: Learning | None = None
    paused_jobs: tuple[PausedJobs, ...] = ()

    @property
    def n_held(self) -> int:
        """The structures that are held back, here or in the base campaign of an arm."""
        return sum(held.n_structures for held in self.held) + (self.waiting.n_held if self.waiting else 0)

    @property
    def n_left(self) -> int:
        """The structures whose chain has not ended and will."""
        return max(self.chains[State.WAITING] + self.chains[State.RUNNING] - self.n_held, 0)

    @property
    def time_left(self) -> datetime.timedelta | None:
        """How long the rest will take at `chains_per_hour`."""
        return datetime.timedelta(hours=self.n_left / self.chains_per_hour) if self.chains_per_hour else None


def read_status(group: CampaignGroup) -> Status:
    """Return how far a campaign is now."""
    return make_status(look_at(read_plan(group)))


def make_status(look: Look, is_with_base: bool = False) -> Status:
    """Return how far a campaign is; of an arm `is_with_base` says whether its base campaign is submitted beside it."""
    extras, processes = look.extras, look.processes
    chains = Counter(processes.chain_state(label) for label in processes.chains)
    networks = Counter(processes.newest_state(place, look.history.generation) for place in processes.networks)
    return Status(
        name=extras.label,
        chains={state: chains[state] for state in State},
        networks={state: networks[state] for state in State},
        is_paused=extras.is_paused,
        max_running=extras.max_running,
        n_retried=sum(len(tries) > 1 for tries in processes.chains.values()),
        chains_per_hour=_rate(chains[State.RUNNING], processes),
        failures=_group_failures(processes),
        held=[
            _describe_held(processes.last_run(place, look.history.generation), labels)
            for place, labels in look.due.held.items()
        ],
        foreign=[process.pk for process in processes.foreign],
        waiting=_describe_waiting(look.due, is_with_base),
        learning=_describe_learning(look),
        paused_jobs=find_paused_jobs(processes.running),
    )


def _describe_learning(look: Look) -> Learning | None:
    if not (look.learns or look.history.rounds or look.extras.round_fault):
        return None
    holds = look.chains_wait and bool(look.due.chains)
    fault, history, processes = look.extras.round_fault, look.history, look.processes
    told = fault['message'] if fault and fault['after'] >= history.last_after else ''
    failed = [
        tries[-1]
        for (place, generation), tries in processes.renewed.items()
        if generation == history.generation and processes.has_no_report(place, generation)
    ]
    return Learning(history, look.round, holds, told, tuple(failed), look.has_missed_rounds)


def _rate(n_running: int, processes: CampaignProcesses) -> float | None:
    """Return chains an hour by Little's law; a count over time would include the time in which nobody submitted."""
    ended = [chain for tries in processes.chains.values() for chain in tries if chain.state is not State.RUNNING]
    recent = sorted(ended, key=lambda chain: chain.changed)[-RECENT:]
    hours = sum((chain.changed - chain.began).total_seconds() for chain in recent) / 3600
    return n_running * len(recent) / hours if hours and n_running else None


def _describe_held(run: Process, labels: list[str]) -> Held:
    return Held(run.label, run.pk, len(labels), run.exit_message or f'it was {run.state}')


def _describe_waiting(due: Due, is_with_base: bool) -> Waiting | None:
    n_structures = 0 if is_with_base else len(due.waiting)
    if due.raw_legs is None or not (n_structures or due.held_with_base):
        return None
    return Waiting(due.raw_legs.name, n_structures, len(due.held_with_base))


def _group_failures(processes: CampaignProcesses) -> list[FailedChains]:
    failed: dict[str, list[Process]] = {}
    for label, tries in processes.chains.items():
        state = processes.chain_state(label)
        if state in UNSUCCESSFUL:
            name = str(tries[-1].exit_status) if state is State.FAILED else state.value
            failed.setdefault(name, []).append(tries[-1])
    failures = [
        FailedChains(name, [chain.label for chain in chains], chains[0].pk, chains[0].exit_message or '')
        for name, chains in failed.items()
    ]
    return sorted(failures, key=lambda failure: -len(failure.labels))
