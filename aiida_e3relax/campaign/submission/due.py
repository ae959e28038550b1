"""What is left to submit of a campaign, what waits for raw legs of another one, and what is held back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from aiida.common.exceptions import NotExistent

from aiida_e3relax.campaign.group import GroupExtras
from aiida_e3relax.campaign.plan import Plan
from aiida_e3relax.campaign.rounds.due import RoundDue, find_round
from aiida_e3relax.campaign.rounds.history import History, read_history
from aiida_e3relax.campaign.rounds.settings import MEASURED
from aiida_e3relax.campaign.settings import CampaignSettings
from aiida_e3relax.campaign.submission.processes import UNSUCCESSFUL, CampaignProcesses, State, sort_processes
from aiida_e3relax.campaign.submission.raw_legs import RawLegs, describe_missing, find_raw_legs


@dataclasses.dataclass(frozen=True)
class Due:
    """What is to be submitted.

    Attributes
    ----------
    networks
        The batches, by their place, that the network is still to be run on.
    chains
        The structures, by their label, for which a chain can be submitted now.
    held
        By the place of a batch its structures that still get a chain, but not now: the network failed for the batch as
        a whole and as often as it may, or for what another run does not mend, which says that its code or its computer
        is at fault and not a structure.
    waiting
        Of an arm the structures whose chain cannot be submitted before the base campaign has relaxed the raw crystal.
    held_with_base
        The structures whose chain waits for a raw leg that comes once somebody has mended what is at fault in the base
        campaign.
    raw_legs
        What the base campaign of an arm has; None of a campaign that relaxes its own raw crystals.
    to_predict
        By the place of a batch its structures that still get a chain, for which the network runs next.
    """

    networks: tuple[int, ...]
    chains: tuple[str, ...]
    held: Mapping[int, list[str]]
    waiting: tuple[str, ...] = ()
    held_with_base: tuple[str, ...] = ()
    raw_legs: RawLegs | None = None
    to_predict: Mapping[int, list[str]] = dataclasses.field(default_factory=dict, compare=False)

    @property
    def held_in_batches(self) -> set[str]:
        """The structures of `held`."""
        return set().union(*self.held.values())

    @property
    def n_held(self) -> int:
        """How many structures are held back, for either reason."""
        return len(self.held_in_batches) + len(self.held_with_base)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left to submit other than what is held back."""
        return not (self.networks or self.chains or self.waiting)


@dataclasses.dataclass(frozen=True)
class Look:
    """A campaign at one moment: what may change of it, its processes, and what is left to submit.

    Attributes
    ----------
    history
        The rounds in which its model has learnt.
    round
        Whether another one is due.
    learns
        Whether the campaign was told to learn.
    chains_wait
        Whether no chain is submitted until a round has ended.
    """

    extras: GroupExtras
    processes: CampaignProcesses
    due: Due
    history: History
    round: RoundDue
    learns: bool = False
    chains_wait: bool = False

    @property
    def has_missed_rounds(self) -> bool:
        """Whether the campaign was told to learn, and all structures have begun before a round was made."""
        has_begun = all(self.processes.chains.values())
        return self.learns and has_begun and not (self.history.rounds or self.round.is_due)

    @property
    def is_done(self) -> bool:
        """Whether nothing runs and nothing is left to submit, other than what is held back."""
        return not self.processes.running and self.due.is_empty and not self.round.is_due


def look_at(plan: Plan) -> Look:
    """Return how a campaign is now, in three queries, one more where its model has learnt, and four more of an arm.

    Raises NotExistent where it has been deleted.
    """
    extras = plan.read_extras()
    if extras is None:
        raise NotExistent(f'campaign `{plan.settings.name}`: it has been deleted')
    processes = sort_processes(plan.settings, plan.linked.read())
    history = read_history(processes.rounds)
    due = _find_due(plan, extras, processes, history)
    next_round = find_round(plan.settings, extras, processes, history)
    waits = plan.settings.how_to_learn.wait and (history.is_running or next_round.is_due)
    return Look(extras, processes, due, history, next_round, plan.settings.learning is not None, waits)


def read_raw_legs(plan: Plan) -> RawLegs:
    """Return what the base campaign of an arm has relaxed so far, what is to come, and what there never will be.

    Each structure of the arm is in one of the four. A raw leg that is there counts even where its chain failed or is to
    be tried again, where its crystal is not in the sample, and where the base campaign has been deleted.
    """
    settings, base = plan.settings, plan.base
    deleted = f'the campaign that was to relax the raw crystal (settings {settings.raw_legs_of}) has been deleted'
    if base is None:
        return RawLegs('', {}, (), (), {label: _outside(settings, label) or deleted for label in settings.structures})
    extras = base.read_extras()
    # The legs are read last: a chain that ends between the two queries would else seem to have left none.
    processes = sort_processes(base.settings, base.linked.read())
    history = read_history(processes.rounds)
    due = _find_own_due(base, extras, processes, history.generation) if extras else Due((), (), {})
    held_there = due.held_in_batches
    begin = _find_left(due, extras, processes) if extras else set()
    found = find_raw_legs(base.node)
    chains: dict[str, str] = {}
    to_come: list[str] = []
    held: list[str] = []
    missing: dict[str, str] = {}
    for label in settings.structures:
        state = processes.chain_state(label)
        if label in found:
            chains[label] = found[label]
        elif outside := _outside(base.settings, label):
            missing[label] = outside
        elif state is State.RUNNING or label in begin:
            to_come.append(label)
        elif extras is None:
            missing[label] = deleted
        elif label in held_there or state in (State.KILLED, State.EXCEPTED):
            held.append(label)
        else:
            missing[label] = describe_missing(extras.label, processes.chains[label][-1])
    return RawLegs(extras.label if extras else base.settings.name, chains, tuple(to_come), tuple(held), missing)


def _outside(settings: CampaignSettings, label: str) -> str | None:
    """Return why no raw leg was planned for a structure; None where one was."""
    return None if settings.has_raw_leg(label) else 'its raw crystal is not in the sample'


def _find_due(plan: Plan, extras: GroupExtras, processes: CampaignProcesses, history: History) -> Due:
    due = _find_own_due(plan, extras, processes, history.generation)
    if plan.settings.raw_legs_of is None:
        return due
    raw_legs = read_raw_legs(plan)
    left = _find_left(due, extras, processes)
    to_come, held = left.intersection(raw_legs.to_come), left.intersection(raw_legs.held)
    blocked = to_come | held
    return dataclasses.replace(
        due,
        chains=tuple(label for label in due.chains if label not in blocked),
        waiting=tuple(label for label in processes.chains if label in to_come),
        held_with_base=tuple(label for label in processes.chains if label in held),
        raw_legs=raw_legs,
    )


def _find_left(due: Due, extras: GroupExtras, processes: CampaignProcesses) -> set[str]:
    """Return the structures that get a chain, now or later, but for those that are held back with their batch."""
    return {label for label in processes.chains if _may_begin(label, processes, extras)} - due.held_in_batches


def find_waiting_judges(settings: CampaignSettings, extras: GroupExtras, processes: CampaignProcesses) -> set[str]:
    """Return the judges that may end yet: their chain runs, or they get one, or another one.

    One that failed as often as it may never judges, unless somebody lets it try again.
    """
    return {
        label
        for label in settings.judge_set
        if processes.chain_state(label) is State.RUNNING or _may_begin(label, processes, extras)
    }


def attempts_key(place: int, generation: int) -> str:
    """Return the key in `GroupExtras.network_attempts` of a batch and a generation of the model."""
    return f'{place}_generation_{generation}' if generation else str(place)


def _find_own_due(plan: Plan, extras: GroupExtras, processes: CampaignProcesses, generation: int) -> Due:
    """Return what is left to submit, raw legs of another campaign or not.

    What is left of a batch is predicted by the newest `generation` of the model. Where that fails as a whole and as
    often as it may, an older prediction does. What is tried once more keeps the prediction that it had: a model that
    has learnt since may have learnt from its own end.
    """
    ready: list[str] = []
    of_batch: dict[int, list[str]] = {}
    for label in processes.chains:
        if not _may_begin(label, processes, extras):
            continue
        if label in plan.batch_index and not (generation and processes.chains[label]):
            of_batch.setdefault(plan.batch_index[label], []).append(label)
        else:
            ready.append(label)
    networks, chains, held, is_predicting = [], ready, {}, False
    for place, labels in sorted(of_batch.items()):
        state = processes.network_state(place, generation)
        has_no_report = processes.has_no_report(place, generation)
        tries = len(processes.network_tries(place, generation))
        retries = plan.settings.network_retries if processes.is_worth_repeating(place, generation) else 0
        allowed = max(1 + retries, extras.network_attempts.get(attempts_key(place, generation), 0))
        if state is State.WAITING or (has_no_report and tries < allowed):
            networks.append(place)
        elif state is State.RUNNING:
            is_predicting = True
        elif has_no_report and not (extras.raw_on_network_failure or processes.runs_with_report(place, generation)):
            held[place] = labels
        else:
            chains += labels
    if (networks or is_predicting) and plan.settings.how_to_learn.order in MEASURED:
        # Which one is first is known once all are predicted.
        chains = [label for label in chains if label not in plan.batch_index]
    return Due(tuple(networks), tuple(chains), held, to_predict={place: of_batch[place] for place in networks})


def _may_begin(label: str, processes: CampaignProcesses, extras: GroupExtras) -> bool:
    """Return whether a structure may get a chain, or another one."""
    may_begin = processes.chain_state(label) in (State.WAITING, *UNSUCCESSFUL)
    return may_begin and len(processes.chains[label]) < extras.attempts.get(label, 1)
