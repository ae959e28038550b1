"""What is left to submit of a campaign, and what is held back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from aiida_e3relax.campaign.group import CampaignGroup
from aiida_e3relax.campaign.settings import CampaignSettings
from aiida_e3relax.campaign.submission.processes import UNSUCCESSFUL, CampaignProcesses, State


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
    """

    networks: tuple[int, ...]
    chains: tuple[str, ...]
    held: Mapping[int, list[str]]


def find_due(
    group: CampaignGroup, settings: CampaignSettings, batch_index: Mapping[str, int], processes: CampaignProcesses
) -> Due:
    """Return what is left to submit of a campaign whose structures are in the batches `batch_index`."""
    attempts = group.attempts
    without_batch: list[str] = []
    of_batch: dict[int, list[str]] = {}
    for label, tries in processes.chains.items():
        may_begin = processes.chain_state(label) in (State.WAITING, *UNSUCCESSFUL)
        if not may_begin or len(tries) >= attempts.get(label, 1):
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
