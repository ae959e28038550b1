"""Submit what a campaign has to run, a bit at a time.

What was submitted is read from the provenance graph each time: each process has a link from the campaign's settings.
AiiDA stores the link in one transaction with the process, so no process is ever there without being found.
aiida-submission-controller was not used for two reasons. It finds its processes in a group, to which it adds them after
the submission; killed in between, it submits a second time. And it submits one process a structure, not one run of the
network for many structures.

An arm, a campaign that takes its raw legs from another one, submits the chain of a structure once the raw leg is there.
Which chain has it is read from the graph in the same way, and then recorded as the chain's input `reference_leg`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from aiida import orm

from aiida_e3relax.campaign.group import CampaignGroup
from aiida_e3relax.campaign.submission.daemon import Daemon, find_room, submit_some
from aiida_e3relax.campaign.submission.due import Due, find_due
from aiida_e3relax.campaign.submission.orphans import repair_orphans
from aiida_e3relax.campaign.submission.processes import (
    NETWORK_LABEL,
    UNSUCCESSFUL,
    CampaignProcesses,
    State,
    read_processes,
)
from aiida_e3relax.campaign.submission.raw_legs import RawLegs
from aiida_e3relax.workflows.comparison.reference import Reference
from aiida_e3relax.workflows.vasp.choices import ChainChoices
from aiida_e3relax.workflows.vasp.messages import describe_failure

SLOTS_PER_CHAIN = 7
"""The processes of a chain at the same time: itself, and in both legs the relaxation, the run of VASP and its job."""


class CampaignController:
    """Submits the network's runs and the chains of a campaign, while its lock is held.

    Attributes
    ----------
    group
        The campaign.
    daemon
        The one that runs the processes.
    """

    def __init__(self, group: CampaignGroup):
        self.group = group
        self.daemon = Daemon()
        self._node = group.settings_node
        self._settings = group.settings
        self._choices = ChainChoices.from_record(self._settings.chain)
        self._batch_index = self._settings.batch_index()

    def read(self) -> CampaignProcesses:
        """Return the campaign's processes as they are now."""
        return read_processes(self._settings, self._node)

    def retry_failed(self) -> list[str]:
        """Allow another try to all that ended without success, and return the labels.

        It is another chain for each structure whose last one failed, and another run of the network for each batch that
        is held back.
        """
        processes = self.read()
        failed = [label for label in processes.chains if processes.chain_state(label) in UNSUCCESSFUL]
        tries = {label: len(processes.chains[label]) + 1 for label in failed}
        held = self.find_due(processes).held
        runs = {str(place): len(processes.networks[place]) + 1 for place in held}
        if tries:
            self.group.attempts = self.group.attempts | tries
        if runs:
            self.group.network_attempts = self.group.network_attempts | runs
        return [*failed, *(NETWORK_LABEL.format(place=place) for place in held)]

    def find_due(self, processes: CampaignProcesses) -> Due:
        """Return what is left to submit, and what is held back."""
        return find_due(self.group, self._settings, self._batch_index, processes)

    def is_done(self, processes: CampaignProcesses) -> bool:
        """Return whether nothing runs and nothing is left to submit, other than what is held back."""
        return not processes.running and self.find_due(processes).is_empty

    def advance(
        self,
        limit: int,
        confirm_lock: Callable[[], None] = lambda: None,
        max_running: int | None = None,
        running_beside: int = 0,
    ) -> int:
        """Submit at most `limit` processes that are due and for which there is room, and return how many.

        Orphaned submissions are repaired first. Nothing is submitted while the campaign is paused or no daemon runs.
        `confirm_lock` is that of `lock`, and is called before each submission. `max_running`, by default that of the
        group, bounds the processes of the campaign with those that are `running_beside` it, of its arms.

        Raises ValueError, which names the structure, when inputs are refused that were sound before.
        """
        workers = self.daemon.count_workers()
        if not workers:
            return 0
        confirm_lock()
        processes = self.read()
        if repair_orphans(processes.running):
            processes = self.read()
        if self.group.is_paused:
            return 0
        most = self.group.max_running if max_running is None else max_running
        room = find_room(workers, most, len(processes.running) + running_beside, SLOTS_PER_CHAIN)
        return submit_some(self._due_builders(processes), min(room, limit), confirm_lock)

    def _due_builders(self, processes: CampaignProcesses) -> Iterator[Any]:
        """Yield what can be submitted: one run of the network at a time, then the chains it has nothing to say to."""
        due = self.find_due(processes)
        is_running = any(processes.network_state(place) is State.RUNNING for place in processes.networks)
        if due.networks and not is_running:
            yield self._network_builder(due.networks[0])
        for label in due.chains:
            yield self._chain_builder(label, processes, due.raw_legs)

    def _network_builder(self, place: int) -> Any:
        batch: Any = orm.load_node(uuid=self._settings.batches[place])
        fixed = {label: sites for label, sites in self._settings.fixed.items() if label in batch.labels}
        builder: Any = self._choices.network_builder(batch, self._node, fixed)
        builder.metadata.label = NETWORK_LABEL.format(place=place)
        builder.metadata.description = f'The network on a batch of the campaign {self.group.label}'
        return builder

    def _chain_builder(self, label: str, processes: CampaignProcesses, raw_legs: RawLegs | None) -> Any:
        inputs: dict[str, Any] = {'campaign': self._node}
        place = self._batch_index.get(label)
        if place is not None:
            inputs['prediction'] = {**_find_prediction(processes.networks[place][-1].pk), 'label': label}
        structure: Any = orm.load_node(uuid=self._settings.structures[label])
        if raw_legs:
            reference = raw_legs.chains.get(label, Reference.NEVER.value)
        else:
            reference = Reference.ALWAYS.value if self._settings.has_raw_leg(label) else Reference.NEVER.value
        try:
            builder: Any = self._choices.chain_builder(
                structure, self._settings.fixed.get(label), reference_leg=reference, **inputs
            )
        except ValueError as error:
            raise ValueError(f'structure `{label}`: {error}') from error
        if raw_legs and label in raw_legs.missing:
            builder.reference_leg = orm.Str(reference, description=raw_legs.missing[label])
        builder.metadata.label = label
        builder.metadata.description = f'{structure.get_formula()} of the campaign {self.group.label}'
        return builder


def advance_together(
    controllers: Sequence[CampaignController], confirm_locks: Sequence[Callable[[], None]], limit: int
) -> int:
    """Advance a base campaign and its arms by at most `limit` submissions in all, and return how many there were.

    The base comes first, since all arms wait for its raw legs, and its cap holds for all of them together.
    """
    most = controllers[0].group.max_running
    running = [len(controller.read().running) for controller in controllers]
    n_submitted = 0
    for place, (controller, confirm_lock) in enumerate(zip(controllers, confirm_locks, strict=True)):
        submitted = controller.advance(limit - n_submitted, confirm_lock, most, sum(running) - running[place])
        running[place] += submitted
        n_submitted += submitted
    return n_submitted


def has_ended(controllers: Sequence[CampaignController]) -> bool:
    """Return whether all that is left to do for a base campaign and its arms, or an arm alone, is to resume or to mend.

    An arm alone waits for raw legs, whoever drives its base campaign; one beside its base waits no longer than there
    is something to do for that.
    """
    # The base first: an arm that is read after it knows of each raw leg that had ended then.
    states = []
    for controller in controllers:
        processes = controller.read()
        states.append((controller, processes, controller.find_due(processes)))
    beside = {controller.group.label for controller in controllers}
    return not any(
        processes.running
        or (
            not controller.group.is_paused
            and (due.networks or due.chains or (due.waiting and due.raw_legs and due.raw_legs.name not in beside))
        )
        for controller, processes, due in states
    )


def _find_prediction(pk: int) -> dict[str, Any]:
    """Return what a run of the network hands on, and how it failed where it has left no report."""
    run: Any = orm.load_node(pk)
    if 'report' not in run.outputs:
        return {'failure': describe_failure(run)}
    return {name: run.outputs[name] for name in ('batch', 'report') if name in run.outputs}
