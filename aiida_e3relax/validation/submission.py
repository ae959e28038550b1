"""Submit what a validation has to compute, a bit at a time.

As in a campaign, what was submitted is read from the provenance graph each time, by the link from the settings to each
process, so that nothing is computed twice however often this is stopped.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from aiida import orm

from aiida_e3relax.campaign.submission.daemon import Daemon, find_room, submit_some
from aiida_e3relax.campaign.submission.orphans import repair_orphans
from aiida_e3relax.campaign.submission.processes import (
    NETWORK,
    UNSUCCESSFUL,
    Process,
    State,
    last_state,
    linked_processes,
)
from aiida_e3relax.crystals.freedom.words import NO_VACUUM, Moves
from aiida_e3relax.data.model import E3RelaxModelData
from aiida_e3relax.validation.creation import vasp_inputs
from aiida_e3relax.validation.group import ValidationGroup, ValidationSettings
from aiida_e3relax.workflows.protocols.protocol import fill_builder
from aiida_e3relax.workflows.vasp.choices import ChainChoices
from aiida_e3relax.workflows.vasp.static import E3RelaxStaticWorkChain

SLOTS_PER_RUN = 3
"""The processes of a static run at the same time: itself, the run of VASP with its restarts, and the job."""
STAGES = ('relaxed', 'unrelaxed')
"""The crystals that need no model; the others are called as the model that predicted them."""
DOT = '.'
"""Between the label of a crystal, which has none, and what was computed of it, in the label of a process."""


@dataclasses.dataclass(frozen=True)
class ValidationProcesses:
    """The processes of a validation, oldest first.

    Attributes
    ----------
    networks
        The runs of the network by the name of the model.
    static
        The static runs by the label of the crystal and the stage, which is one of `STAGES` or the name of a model.
    """

    networks: dict[str, list[Process]]
    static: dict[tuple[str, str], list[Process]]

    @property
    def running(self) -> list[Process]:
        """Those that have not ended."""
        everything = itertools.chain(*self.networks.values(), *self.static.values())
        return [process for process in everything if process.state is State.RUNNING]


@dataclasses.dataclass(frozen=True)
class Due:
    """What is to be submitted now: models by name, and static runs."""

    networks: list[str]
    static: list[tuple[str, str]]


def read_processes(settings: ValidationSettings, node: orm.Dict) -> ValidationProcesses:
    """Return the processes linked to a validation's settings, in one query; others than its own are left out."""
    networks: dict[str, list[Process]] = {}
    static: dict[tuple[str, str], list[Process]] = {}
    for process in linked_processes(node):
        if process.process_label == NETWORK:
            networks.setdefault(process.label, []).append(process)
        else:
            label, _, stage = process.label.partition(DOT)
            if label in settings.crystals and stage:
                static.setdefault((label, stage), []).append(process)
    return ValidationProcesses(networks, static)


class ValidationController:
    """Submits the predictions and the static runs of a validation, while its lock is held.

    Attributes
    ----------
    group
        The validation.
    models
        By the name that tables use the models to validate; those of an earlier call need not be among them.
    daemon
        The one that runs the processes.
    """

    def __init__(self, group: ValidationGroup, models: Mapping[str, E3RelaxModelData]):
        self.group = group
        self.models = dict(models)
        self.daemon = Daemon()
        self._node = group.settings_node
        self._settings = group.settings
        self._choices = ChainChoices.from_record(self._settings.request['static'])
        self._tries: Counter[Any] = Counter()
        _check_models(self.models, self.read())

    def read(self) -> ValidationProcesses:
        """Return the validation's processes as they are now."""
        return read_processes(self._settings, self._node)

    def retry_failed(self) -> int:
        """Allow another try to all that ended without success, and return how many these are."""
        processes = self.read()
        everything: dict[Any, list[Process]] = {**processes.networks, **processes.static}
        failed = {key: len(tries) + 1 for key, tries in everything.items() if last_state(tries) in UNSUCCESSFUL}
        self._tries |= Counter(failed)
        return len(failed)

    def find_due(self, processes: ValidationProcesses) -> Due:
        """Return what is left to submit now, crystal by crystal; predictions come first."""
        networks = [name for name in self.models if self._may_begin(name, processes.networks.get(name, []))]
        static = []
        for label in self._settings.order:
            stages = [*STAGES, *(name for name in self.models if self._is_predicted(label, name, processes))]
            static += [
                (label, stage)
                for stage in stages
                if self._may_begin((label, stage), processes.static.get((label, stage), []))
            ]
        return Due(networks, static)

    def count(self, processes: ValidationProcesses) -> Counter[str]:
        """Return how many static runs are in which state."""
        counts = Counter(str(last_state(tries)) for tries in processes.static.values())
        waiting = [key for key in self.find_due(processes).static if key not in processes.static]
        return counts + Counter({str(State.WAITING): len(waiting)})

    def is_done(self, processes: ValidationProcesses) -> bool:
        """Return whether nothing runs and nothing is left to submit."""
        due = self.find_due(processes)
        return not (processes.running or due.networks or due.static)

    def advance(self, max_running: int, limit: int, confirm_lock: Callable[[], None] = lambda: None) -> int:
        """Submit at most `limit` processes, while at most `max_running` run, and return how many.

        Orphaned submissions are repaired first. Nothing is submitted while no daemon runs. `confirm_lock` is that of
        `lock`, and is called before each submission.

        Raises ValueError, which names the crystal, when inputs are refused that were sound before.
        """
        workers = self.daemon.count_workers()
        if not workers:
            return 0
        confirm_lock()
        processes = self.read()
        if repair_orphans(processes.running):
            processes = self.read()
        room = find_room(workers, max_running, len(processes.running), SLOTS_PER_RUN)
        return submit_some(self._due_builders(processes), min(room, limit), confirm_lock)

    def _may_begin(self, key: Any, tries: list[Process]) -> bool:
        return last_state(tries) in (State.WAITING, *UNSUCCESSFUL) and len(tries) < max(self._tries[key], 1)

    def _is_predicted(self, label: str, name: str, processes: ValidationProcesses) -> bool:
        tries = processes.networks.get(name, [])
        return last_state(tries) is State.FINISHED and label in self._predicted(tries[-1].pk)

    @functools.cache  # noqa: B019 (as long as the controller)
    def _predicted(self, pk: int) -> Any:
        """Return the batch that a run of the network predicted; an empty tuple where it predicted nothing."""
        run: Any = orm.load_node(pk)
        return run.outputs.batch if 'batch' in run.outputs else ()

    def _due_builders(self, processes: ValidationProcesses) -> Iterator[Any]:
        """Yield what can be submitted: one run of the network at a time, then static runs."""
        due = self.find_due(processes)
        is_predicting = any(last_state(tries) is State.RUNNING for tries in processes.networks.values())
        if due.networks and not is_predicting:
            yield self._network_builder(due.networks[0])
        for label, stage in due.static:
            yield self._static_builder(label, stage, processes)

    def _network_builder(self, name: str) -> Any:
        batch: Any = orm.load_node(uuid=self._settings.batch)
        moves = Moves.POSITIONS if self._settings.has_fixed_cells else Moves.CELL
        choices = dataclasses.replace(
            self._choices, model=self.models[name], freedom={'moves': moves.value, 'vacuum': NO_VACUUM}
        )
        builder: Any = choices.network_builder(batch, self._node, self._settings.fixed or None)
        builder.metadata.label = name
        builder.metadata.description = f'{name} on all crystals of the validation {self.group.label}'
        return builder

    def _static_builder(self, label: str, stage: str, processes: ValidationProcesses) -> Any:
        crystal = self._settings.crystals[label]
        if stage in STAGES:
            inputs: dict[str, Any] = {'structure': orm.load_node(uuid=crystal[stage])}
        else:
            inputs = {'batch': self._predicted(processes.networks[stage][-1].pk), 'label': label}
        builder: Any = E3RelaxStaticWorkChain.get_builder()
        fill_builder(builder, {**inputs, 'vasp': self._vasp(label), 'campaign': self._node})
        builder.metadata.label = f'{label}{DOT}{stage}'
        builder.metadata.description = f'{crystal["name"]}, {stage}, of the validation {self.group.label}'
        return builder

    def _vasp(self, label: str) -> dict[str, Any]:
        """Return the inputs of VASP of a crystal, the same for all its geometries."""
        crystal = self._settings.crystals[label]
        relaxed: Any = orm.load_node(uuid=crystal['relaxed'])
        try:
            inputs = vasp_inputs(self._choices, relaxed)
        except ValueError as error:
            raise ValueError(f'crystal `{label}`: {error}') from error
        inputs.pop('kpoints_spacing', None)
        return inputs | {'kpoints': orm.load_node(uuid=crystal['kpoints'])}


def _check_models(models: Mapping[str, E3RelaxModelData], processes: ValidationProcesses) -> None:
    """Raise ValueError for a model whose name cannot be one, or has been that of another model before."""
    for name, model in models.items():
        if name in STAGES or not name.isprintable() or not name.strip():
            raise ValueError(f'model `{name}`: expected a name other than {" and ".join(STAGES)}; give NAME=MODEL')
        for process in processes.networks.get(name, []):
            run: Any = orm.load_node(process.pk)
            if (before := run.inputs.predict.model).uuid != model.uuid:
                raise ValueError(
                    f'model `{name}`: this validation has {before.content_hash} under that name, found '
                    f'{model.content_hash}; give the new one another name, as NAME=MODEL'
                )
