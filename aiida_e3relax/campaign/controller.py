"""Submit what a campaign has to run, a bit at a time.

The graph is the only memory. What was submitted is found by the link from the campaign's settings to each process. The
link is stored in one transaction with the process, so at no moment is a process there and not found.
aiida-submission-controller finds its processes in a group to which it adds them after the submission: killed in
between, it submits a second time. It knows one process a structure besides, not a run of the network before many.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.engine import submit
from aiida.manage import get_manager
from aiida.manage.configuration import get_config

from aiida_e3relax.campaign.daemon import Daemon
from aiida_e3relax.campaign.group import CampaignGroup
from aiida_e3relax.campaign.lost import mend_lost
from aiida_e3relax.campaign.processes import NETWORK_LABEL, UNSUCCESSFUL, Processes, State, read_processes
from aiida_e3relax.workflows.choices import ChainChoices
from aiida_e3relax.workflows.story import tell_failure

SLOTS_PER_CHAIN = 7
"""Processes of a chain at the same time: itself, and in both legs the relaxation, the run of VASP and its job."""


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

    def read(self) -> Processes:
        """Return the campaign's processes as they are now."""
        return read_processes(self._settings, self._node)

    def retry_failed(self) -> list[str]:
        """Allow another chain to each structure whose last one ended without success, and return their labels."""
        processes = self.read()
        failed = [label for label in processes.chains if processes.chain_state(label) in UNSUCCESSFUL]
        tries = {label: len(processes.chains[label]) + 1 for label in failed}
        self.group.attempts = self.group.attempts | tries
        return failed

    def is_done(self, processes: Processes) -> bool:
        """Return whether nothing runs and nothing is left to submit."""
        return not processes.running and not self._due(processes)

    def advance(self, limit: int) -> int:
        """Submit at most `limit` processes that are due and for which there is room, and return how many.

        Lost processes are mended first. Nothing is submitted while the campaign is paused or no daemon runs.

        Raises ValueError, which names the structure, when inputs are refused that were sound before.
        """
        workers = self.daemon.count_workers()
        if not workers:
            return 0
        processes = self.read()
        if mend_lost(processes.running):
            processes = self.read()
        if self.group.is_paused:
            return 0
        slots = workers * get_manager().get_option('daemon.worker_process_slots')
        room = max(min(self.group.max_running, slots // SLOTS_PER_CHAIN), 1) - len(processes.running)
        builders = itertools.islice(self._due_builders(processes), max(min(room, limit), 0))
        return sum(bool(submit(builder)) for builder in builders)

    def _due_builders(self, processes: Processes) -> Iterator[Any]:
        """Yield what can be submitted: one run of the network at a time, then the chains it has nothing to say to."""
        states = [processes.network_state(place) for place in processes.networks]
        if State.WAITING in states and State.RUNNING not in states:
            yield self._network_builder(states.index(State.WAITING))
        for label in self._due(processes):
            place = self._batch_index.get(label)
            if place is None or states[place] not in (State.WAITING, State.RUNNING):
                yield self._chain_builder(label, processes)

    def _due(self, processes: Processes) -> list[str]:
        """Return the structures that still get a chain."""
        attempts = self.group.attempts
        return [
            label
            for label, tries in processes.chains.items()
            if processes.chain_state(label) in (State.WAITING, *UNSUCCESSFUL) and len(tries) < attempts.get(label, 1)
        ]

    def _network_builder(self, place: int) -> Any:
        batch: Any = orm.load_node(uuid=self._settings.batches[place])
        builder: Any = self._choices.network_builder(batch, self._node)
        builder.metadata.label = NETWORK_LABEL.format(place=place)
        builder.metadata.description = f'The network on a batch of the campaign {self.group.label}'
        return builder

    def _chain_builder(self, label: str, processes: Processes) -> Any:
        inputs: dict[str, Any] = {'campaign': self._node}
        place = self._batch_index.get(label)
        if place is not None:
            inputs['prediction'] = {**_find_prediction(processes.networks[place][-1].pk), 'label': label}
        structure: Any = orm.load_node(uuid=self._settings.structures[label])
        reference = 'always' if self._settings.has_raw_leg(label) else 'never'
        try:
            builder: Any = self._choices.chain_builder(
                structure, self._settings.fixed.get(label), reference_leg=reference, **inputs
            )
        except ValueError as error:
            raise ValueError(f'structure `{label}`: {error}') from error
        builder.metadata.label = label
        builder.metadata.description = f'{structure.get_formula()} of the campaign {self.group.label}'
        return builder


@contextlib.contextmanager
def lock(group: CampaignGroup) -> Iterator[None]:
    """Hold the right to submit for a campaign, among all who use this AiiDA configuration on this machine.

    The lock goes with the process that holds it, however that ends.

    Raises
    ------
    BlockingIOError
        When another process holds it.
    """
    path = Path(get_config().dirpath) / 'access' / f'e3relax-campaign-{group.uuid}.lock'
    path.parent.mkdir(exist_ok=True)
    with path.open('w', encoding='utf-8') as handle:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _find_prediction(pk: int) -> dict[str, Any]:
    """Return what a run of the network hands on, and how it failed where it has left no report."""
    run: Any = orm.load_node(pk)
    if 'report' not in run.outputs:
        return {'failure': tell_failure(run)}
    return {name: run.outputs[name] for name in ('batch', 'report') if name in run.outputs}
