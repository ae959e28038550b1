"""Submit what a campaign has to run, a bit at a time.

What was submitted is read from the provenance graph each time: each process has a link from the campaign's settings.
AiiDA stores the link in one transaction with the process, so no process is ever there without being found.
aiida-submission-controller was not used for two reasons. It finds its processes in a group, to which it adds them after
the submission; killed in between, it submits a second time. And it submits one process a structure, not one run of the
network for many structures.

An arm, a campaign that takes its raw legs from another one, submits the chain of a structure once the raw leg is there.
Which chain has it is read from the graph in the same way, and then recorded as the chain's input `reference_leg`.

Where the model of a campaign learns, a round is a process with that link, too. The newest model is the output of the
last round that was better, and what has not begun is predicted by that one before its chain is submitted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from aiida import orm
from aiida.common.exceptions import NotExistent
from sqlalchemy.exc import SQLAlchemyError

from aiida_e3relax.calculations.batches import gather_structures
from aiida_e3relax.campaign.group import CampaignGroup
from aiida_e3relax.campaign.plan import read_plan
from aiida_e3relax.campaign.rounds.builder import round_builder
from aiida_e3relax.campaign.rounds.history import read_generations
from aiida_e3relax.campaign.rounds.order import StartOrder
from aiida_e3relax.campaign.submission.daemon import Daemon, find_room, submit_some
from aiida_e3relax.campaign.submission.due import Look, attempts_key, find_waiting_judges, look_at
from aiida_e3relax.campaign.submission.orphans import repair_orphans
from aiida_e3relax.campaign.submission.processes import NETWORK_LABEL, RENEWED_LABEL, UNSUCCESSFUL, CampaignProcesses
from aiida_e3relax.campaign.submission.raw_legs import RawLegs, explain_refusal
from aiida_e3relax.workflows.comparison.reference import Reference
from aiida_e3relax.workflows.vasp.choices import ChainChoices
from aiida_e3relax.workflows.vasp.messages import describe_failure

SLOTS_PER_CHAIN = 7
"""The processes of a chain at the same time: itself, and in both legs the relaxation, the run of VASP and its job."""
SLOTS_PER_NETWORK = 2
"""Those of a run of the network: itself, and its job."""


class CampaignController:
    """Submits the network's runs and the chains of a campaign, while its lock is held.

    Attributes
    ----------
    group
        The campaign.
    plan
        What never changes of it.
    daemon
        The one that runs the processes.
    refusal
        Why a chain or a run of the network that is due cannot be submitted, since its inputs are refused that were
        sound before; nothing more of the campaign is submitted then. None where all goes well.
    """

    def __init__(self, group: CampaignGroup):
        self.group = group
        self.plan = read_plan(group)
        self.daemon = Daemon()
        self.refusal: ValueError | None = None
        self._settings = self.plan.settings
        self._choices = ChainChoices.from_record(self._settings.chain)
        self._order = StartOrder(self.plan)

    def look(self) -> Look:
        """Return how the campaign is now."""
        return look_at(self.plan)

    def retry_failed(self) -> list[str]:
        """Allow another try to all that ended without success, and return the labels.

        It is another chain for each structure whose last one failed, and another run of the network for each batch that
        is held back, or that the newest model could not predict.
        """
        look = self.look()
        processes, generation = look.processes, look.history.generation
        left = {place for label, place in self.plan.batch_index.items() if not processes.chains[label]}
        lost = {p for p, number in processes.renewed if number == generation and processes.has_no_report(p, number)}
        held = sorted({*look.due.held, *(lost & left)})
        failed = [label for label in processes.chains if processes.chain_state(label) in UNSUCCESSFUL]
        tries = {label: len(processes.chains[label]) + 1 for label in failed}
        runs = {attempts_key(place, generation): len(processes.network_tries(place, generation)) + 1 for place in held}
        if tries:
            self.group.attempts = {**look.extras.attempts, **tries}
        if runs:
            self.group.network_attempts = {**look.extras.network_attempts, **runs}
        return [*failed, *(NETWORK_LABEL.format(place=place) for place in held)]

    def advance(self, limit: int, confirm_lock: Callable[[], None] = lambda: None) -> int:
        """Submit as `advance_together` does, of this campaign alone; raises ValueError for a `refusal`."""
        n_submitted = advance_together([self], [self.look()], [confirm_lock], limit, self.daemon.count_workers())
        if self.refusal:
            raise self.refusal
        return n_submitted

    def due_rounds(self, look: Look) -> Iterator[Any]:
        """Yield a round of learning where one is due.

        One that is refused costs nothing but itself: the reason is kept with the campaign, which goes on.
        """
        if not look.round.is_due or self.refusal:
            return
        newest = read_generations(self._settings.chain['model'], look.history)[-1]
        waiting = find_waiting_judges(self._settings, look.extras, look.processes)
        try:
            builder = round_builder(self.plan, look.history, newest, look.round.finished, waiting, look.extras.training)
        except SQLAlchemyError:
            raise
        except Exception as error:  # whatever it is, the campaign is worth more than a round of it
            message = str(error) if isinstance(error, ValueError | NotExistent) else repr(error)
            asked = look.extras.rounds_asked
            self.group.round_fault = {'after': look.round.finished, 'asked': asked, 'message': message}
        else:
            yield builder

    def network_jobs(self, look: Look) -> int:
        """Return how many runs of the network may run at the same time."""
        return look.extras.network_jobs or self._settings.network_jobs

    def due_networks(self, look: Look) -> Iterator[Any]:
        """Yield the runs of the network that can be submitted, of one batch each, until so many run as may.

        It ends with the first one that is refused, with the reason in `refusal`.
        """
        more = self.network_jobs(look) - len(look.processes.running_networks)
        for place in look.due.networks[: max(more, 0)]:
            if self.refusal:
                return
            try:
                builder = self._network_builder(place, look)
            except ValueError as error:
                batch = NETWORK_LABEL.format(place=place)
                self.refusal = ValueError(f'campaign `{self.group.label}`, run of the network `{batch}`: {error}')
            else:
                yield builder

    def due_chains(self, look: Look) -> Iterator[Any]:
        """Yield the chains that can be submitted, those that the network has nothing more to say to.

        It ends with the first one that is refused, with the reason in `refusal`. Where chains are to wait for rounds,
        there is none while one is due or runs.
        """
        processes, due = look.processes, look.due
        if look.chains_wait:
            return
        for label in self._order.sort(due.chains, processes, look.history.generation):
            if self.refusal:
                return
            try:
                builder = self._chain_builder(label, processes, due.raw_legs, look.history.generation)
            except ValueError as error:
                self.refusal = error
            else:
                yield builder

    def _network_builder(self, place: int, look: Look) -> Any:
        batch: Any = orm.load_node(uuid=self._settings.batches[place])
        choices, label = self._choices, NETWORK_LABEL.format(place=place)
        if generation := look.history.generation:
            labels = look.due.to_predict[place]
            if len(labels) < len(batch.labels):
                left: Any = {label: orm.load_node(uuid=self._settings.structures[label]) for label in labels}
                batch = gather_structures(**left)
            model: Any = orm.load_node(uuid=look.history.tuned[-1].model)
            choices = dataclasses.replace(choices, model=model)
            label = RENEWED_LABEL.format(place=place, generation=generation)
        fixed = {label: sites for label, sites in self._settings.fixed.items() if label in batch.labels}
        builder: Any = choices.network_builder(batch, self.plan.node, fixed)
        builder.metadata.label = label
        builder.metadata.description = f'The network on a batch of the campaign {self.group.label}'
        return builder

    def _chain_builder(
        self, label: str, processes: CampaignProcesses, raw_legs: RawLegs | None, generation: int
    ) -> Any:
        inputs: dict[str, Any] = {'campaign': self.plan.node}
        place = self.plan.batch_index.get(label)
        if place is not None:
            inputs['prediction'] = {**_find_prediction(label, place, processes, generation), 'label': label}
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
            reason = explain_refusal(error, raw_legs.name) if raw_legs else error
            raise ValueError(f'campaign `{self.group.label}`, structure `{label}`: {reason}') from error
        if raw_legs and label in raw_legs.missing:
            builder.reference_leg = orm.Str(reference, description=raw_legs.missing[label])
        builder.metadata.label = label
        builder.metadata.description = f'{structure.get_formula()} of the campaign {self.group.label}'
        return builder


def look_together(controllers: Sequence[CampaignController]) -> list[Look]:
    """Return how a base campaign and its arms are now.

    The base comes first: an arm that is read after it knows of each raw leg that had ended then.
    """
    return [controller.look() for controller in controllers]


def advance_together(
    controllers: Sequence[CampaignController],
    looks: Sequence[Look],
    confirm_locks: Sequence[Callable[[], None]],
    limit: int,
    workers: int,
) -> int:
    """Advance a base campaign and its arms by at most `limit` submissions in all, and return how many there were.

    Orphaned submissions are repaired first. Then what is due is submitted as far as there is room: nothing of a
    campaign that is paused or has a `refusal`, and nothing at all where no daemon runs. The base comes first, since all
    arms wait for its raw legs, and its cap holds for the chains of all of them together. Runs of the network, of which
    each has a number of its own, and rounds of learning run beside these.

    Parameters
    ----------
    controllers, looks, confirm_locks
        Of the base campaign first: who submits, how the campaign is now, and the function that `lock` gives, which is
        called before each submission.
    workers
        Of the daemon.
    """
    if not workers:
        return 0
    for confirm_lock in confirm_locks:
        confirm_lock()
    deleted = [repair_orphans(look.processes.running) for look in looks]
    if any(deleted):
        looks = look_together(controllers)
    most, n_submitted = looks[0].extras.max_running, 0
    n_chains = sum(len(look.processes.running_chains) for look in looks)
    n_networks = sum(len(look.processes.running_networks) for look in looks)
    for controller, look, confirm_lock in zip(controllers, looks, confirm_locks, strict=True):
        if not look.extras.is_paused:
            n_submitted += submit_some(controller.due_rounds(look), limit - n_submitted, confirm_lock)
            wanted = n_networks + controller.network_jobs(look)
            room = find_room(workers, wanted, n_networks, SLOTS_PER_NETWORK, SLOTS_PER_CHAIN * n_chains)
            new = submit_some(controller.due_networks(look), min(room, limit - n_submitted), confirm_lock)
            n_networks, n_submitted = n_networks + new, n_submitted + new
            room = find_room(workers, most, n_chains, SLOTS_PER_CHAIN, SLOTS_PER_NETWORK * n_networks)
            new = submit_some(controller.due_chains(look), min(room, limit - n_submitted), confirm_lock)
            n_chains, n_submitted = n_chains + new, n_submitted + new
    return n_submitted


def has_ended(controllers: Sequence[CampaignController], looks: Sequence[Look]) -> bool:
    """Return whether all that is left to do for a base campaign and its arms, or an arm alone, is to resume or to mend.

    An arm alone waits for raw legs, whoever drives its base campaign; one beside its base waits no longer than there
    is something to do for that. One with a `refusal` has nothing more to do.
    """
    nodes = {controller.plan.node.uuid for controller in controllers}
    for controller, look in zip(controllers, looks, strict=True):
        due, is_alone = look.due, controller.plan.settings.raw_legs_of not in nodes
        is_left = due.networks or due.chains or (due.waiting and is_alone) or look.round.is_due
        if not controller.refusal and (look.processes.running or (is_left and not look.extras.is_paused)):
            return False
    return True


def _find_prediction(label: str, place: int, processes: CampaignProcesses, generation: int) -> dict[str, Any]:
    """Return what the newest run of the network for a structure hands on, and how it failed where none left a report.

    A batch is predicted again without what has begun by then; what is tried once more has an older prediction.
    """
    for process in processes.runs_with_report(place, generation):
        run: Any = orm.load_node(process.pk)
        if process.label == NETWORK_LABEL.format(place=place) or label in run.inputs.predict.batch.labels:
            if 'report' not in run.outputs:
                return {'failure': describe_failure(run)}
            return {name: run.outputs[name] for name in ('batch', 'report') if name in run.outputs}
    last: Any = orm.load_node(processes.last_run(place, generation).pk)
    return {'failure': describe_failure(last)}
