"""What is left to submit of a campaign, what waits for raw legs of another one, and what is held back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from aiida_e3relax.campaign.arms import find_base
from aiida_e3relax.campaign.group import CampaignGroup
from aiida_e3relax.campaign.settings import CampaignSettings
from aiida_e3relax.campaign.submission.processes import UNSUCCESSFUL, CampaignProcesses, State, read_processes
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
        a whole and as often as it may, which says that its code or its computer is at fault and not a structure.
    waiting
        Of an arm the structures whose chain cannot be submitted before the base campaign has relaxed the raw crystal.
    held_with_base
        The structures whose chain waits for a raw leg that the base campaign holds back.
    raw_legs
        What the base campaign of an arm has; None of a campaign that relaxes its own raw crystals.
    """

    networks: tuple[int, ...]
    chains: tuple[str, ...]
    held: Mapping[int, list[str]]
    waiting: tuple[str, ...] = ()
    held_with_base: tuple[str, ...] = ()
    raw_legs: RawLegs | None = None

    @property
    def n_held(self) -> int:
        """How many structures are held back, for either reason."""
        return sum(map(len, self.held.values())) + len(self.held_with_base)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left to submit other than what is held back."""
        return not (self.networks or self.chains or self.waiting)


def find_due(
    group: CampaignGroup, settings: CampaignSettings, batch_index: Mapping[str, int], processes: CampaignProcesses
) -> Due:
    """Return what is left to submit of a campaign whose structures are in the batches `batch_index`."""
    due = _find_own_due(group, settings, batch_index, processes)
    if settings.raw_legs_of is None:
        return due
    raw_legs, attempts = read_raw_legs(settings), group.attempts
    held_here = {label for labels in due.held.values() for label in labels}
    left = [label for label in processes.chains if _may_begin(label, processes, attempts) and label not in held_here]
    to_come, held = set(raw_legs.to_come), set(raw_legs.held)
    return dataclasses.replace(
        due,
        chains=tuple(label for label in due.chains if label not in to_come | held),
        waiting=tuple(label for label in left if label in to_come),
        held_with_base=tuple(label for label in left if label in held),
        raw_legs=raw_legs,
    )


def read_raw_legs(settings: CampaignSettings) -> RawLegs:
    """Return what the base campaign of an arm has relaxed so far, what is to come, and what there never will be.

    Each structure of the arm is in one of the four. A raw leg that is there counts even where its chain failed or is to
    be tried again.
    """
    assert settings.raw_legs_of is not None
    sample = [label for label in settings.structures if settings.has_raw_leg(label)]
    missing = {label: 'its raw crystal is not in the sample' for label in settings.structures if label not in sample}
    base = find_base(settings)
    if base is None:
        reason = f'the campaign that was to relax the raw crystal (settings {settings.raw_legs_of}) has been deleted'
        return RawLegs('', {}, (), (), missing | dict.fromkeys(sample, reason))
    of_base, node = base.settings, base.settings_node
    # The legs are read last: a chain that ends between the two queries would else seem to have left none.
    processes = read_processes(of_base, node)
    due = _find_own_due(base, of_base, of_base.batch_index(), processes)
    attempts, found = base.attempts, find_raw_legs(node)
    held_there = {label for labels in due.held.values() for label in labels}
    chains: dict[str, str] = {}
    to_come: list[str] = []
    held: list[str] = []
    for label in sample:
        if label in found:
            chains[label] = found[label]
        elif label in held_there:
            held.append(label)
        elif processes.chain_state(label) is State.RUNNING or _may_begin(label, processes, attempts):
            to_come.append(label)
        else:
            missing[label] = describe_missing(base.label, processes.chains[label][-1])
    return RawLegs(base.label, chains, tuple(to_come), tuple(held), missing)


def _find_own_due(
    group: CampaignGroup, settings: CampaignSettings, batch_index: Mapping[str, int], processes: CampaignProcesses
) -> Due:
    """Return what is left to submit, raw legs of another campaign or not."""
    attempts = group.attempts
    without_batch: list[str] = []
    of_batch: dict[int, list[str]] = {}
    for label in processes.chains:
        if not _may_begin(label, processes, attempts):
            continue
        if label in batch_index:
            of_batch.setdefault(batch_index[label], []).append(label)
        else:
            without_batch.append(label)
    network_attempts = group.network_attempts
    goes_raw = group.raw_on_network_failure
    networks, chains, held = [], without_batch, {}
    for place, labels in sorted(of_batch.items()):
        state, has_no_report = processes.network_state(place), processes.has_no_report(place)
        allowed = max(1 + settings.network_retries, network_attempts.get(str(place), 0))
        if state is State.WAITING or (has_no_report and len(processes.networks[place]) < allowed):
            networks.append(place)
        elif has_no_report and not goes_raw:
            held[place] = labels
        elif state is not State.RUNNING:
            chains += labels
    return Due(tuple(networks), tuple(chains), held)


def _may_begin(label: str, processes: CampaignProcesses, attempts: Mapping[str, int]) -> bool:
    """Return whether a structure may get a chain, or another one."""
    may_begin = processes.chain_state(label) in (State.WAITING, *UNSUCCESSFUL)
    return may_begin and len(processes.chains[label]) < attempts.get(label, 1)
