"""Crystals that a potential steps together: each by an optimiser of its own, all of them computed in one batch.

What becomes of a crystal is written down for it alone, as a generator that yields the crystal wherever the potential is
asked and goes on with its results. So crystals one after the other are batches of one.
"""

from __future__ import annotations

import collections
import dataclasses
import gc
import itertools
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Generic, Self, TypeVar

import torch
from ase import Atoms
from ase.build import bulk

from aiida_e3relax.common.errors import RunError
from aiida_e3relax.common.out_of_memory import is_out_of_memory
from aiida_e3relax.crystals.files.errors import explain
from aiida_e3relax.gnn.potentials.base import Potential
from aiida_e3relax.gnn.potentials.evaluation import Results, evaluate_alone

T = TypeVar('T')

Steps = Generator[Atoms, Results, T]
"""Yields a crystal, goes on with what the potential says of it, and returns what came of all that."""

MOST_ATOMS = 1000
"""In a batch: networks hardly gain from more, and need up to some 10 MB for each atom."""

NOT_FINITE = 'in a batch its energy, forces or stress are no finite numbers'
"""Why a crystal is computed alone."""
NOT_FINITE_ALONE = 'its energy or forces are no finite numbers'

KNOWN_CRYSTALS = {'Cu': lambda: bulk('Cu'), 'MgO': lambda: bulk('MgO', 'rocksalt', a=4.212)}
"""What a potential that still computes knows, one of them at least."""


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why a crystal got no further. It is no exception: that would keep the memory of what it was raised in."""

    message: str
    out_of_memory: bool

    @classmethod
    def of(cls, error: Exception) -> Self:
        """Return what is told of an error."""
        return cls(explain(error), is_out_of_memory(error))


class NotComputedError(Exception):
    """Raised in the steps of a crystal where the potential is asked and fails, with no more than the `failure`."""

    def __init__(self, failure: Failure):
        super().__init__(failure.message)
        self.failure = failure


@dataclasses.dataclass(eq=False)
class Walk(Generic[T]):
    """One crystal on its way.

    Attributes
    ----------
    index, n_atoms
        Which one it is, and its number of atoms.
    steps
        What it does.
    outcome
        What came of it, None before its end.
    seconds
        Its share of the time.
    alone
        Why it is computed without others; empty where it is not.
    """

    index: int
    n_atoms: int
    steps: Steps[T]
    outcome: T | Failure | None = None
    seconds: float = 0.0
    alone: str = ''
    _place: Atoms | None = None
    _answer: Results | Failure | None = None

    @property
    def place(self) -> Atoms:
        """The crystal where it is."""
        assert self._place is not None
        return self._place

    def answer(self, answer: Results | Failure) -> None:
        """Take what the potential says of the crystal where it is."""
        self._answer = answer

    def go_on(self) -> bool:
        """Do the next step with the last answer; return whether one is needed for another."""
        start = time.perf_counter()
        try:
            if isinstance(self._answer, Failure):
                self._place = self.steps.throw(NotComputedError(self._answer))
            else:
                self._place = next(self.steps) if self._answer is None else self.steps.send(self._answer)
        except StopIteration as end:
            self.outcome = end.value
        except NotComputedError as end:
            self.outcome = end.failure
        except Exception as error:  # wherever its steps lead, the others go on
            self.outcome = Failure.of(error)
        self.seconds += time.perf_counter() - start
        return self.outcome is None


class Lockstep:
    """Steps crystals by a potential, as many at once as it computes in a batch.

    A batch that fails is halved, down to the crystal whose fault it is: that is computed alone from then on, as is one
    whose numbers in a batch are not finite. Where memory ran out, the batches that follow are smaller. Where one fails
    alone, too, another is computed that was before: a potential that fails for that, too, computes nothing any more, as
    after an error of a GPU, and no crystal is to blame.

    Attributes
    ----------
    most_atoms
        In a batch of more than one crystal.
    """

    def __init__(self, potential: Potential):
        self._name, self._calculator, self._batches = potential.name, potential.calculator, potential.batches
        self._computed: Atoms | None = None  # the smallest crystal that was
        self._first_failure = ''  # where none was
        self.most_atoms = MOST_ATOMS if potential.batches else 0

    def run(self, walks: Iterable[Walk[T]], on_end: Callable[[Walk[T]], None]) -> None:
        """Take all `walks` to their ends, and call `on_end` with each; what finds no room in a batch waits for it.

        Nothing is raised for a crystal: its outcome is a `Failure`. Raises RunError where the potential computes
        nothing any more, or has computed none of the crystals and no known one either.
        """
        waiting = collections.deque(walks)
        walking: list[Walk[T]] = []

        def goes_on(walk: Walk[T]) -> bool:
            if walk.go_on():
                return True
            on_end(walk)
            return False

        while True:
            walking = list(filter(goes_on, walking))
            while waiting and (not walking or _count([*walking, waiting[0]]) <= self.most_atoms):
                walking += filter(goes_on, [waiting.popleft()])
            if not walking:
                self._judge_by_known_crystals()
                return
            self._compute(walking)

    def _split(self, walks: Sequence[Walk]) -> list[list[Walk]]:
        """Return the batches in which they are computed."""
        batches: list[list[Walk]] = []
        for walk in walks:
            if walk.alone or self._batches is None:
                continue
            if not batches or _count([*batches[-1], walk]) > self.most_atoms:
                batches.append([])
            batches[-1].append(walk)
        return batches + [[walk] for walk in walks if walk.alone or self._batches is None]

    def _compute(self, walks: Sequence[Walk]) -> None:
        """Answer all of them, in as few batches as they fit into."""
        pending = self._split(walks)
        while pending:
            batch, *pending = pending
            start, n_atoms = time.perf_counter(), _count(batch)
            answers, failure = self._evaluate(batch)
            if failure and failure.out_of_memory:
                _free_memory()
            for walk in batch:
                walk.seconds += (time.perf_counter() - start) * walk.n_atoms / n_atoms
            if failure is None:
                pending = [*self._answer(batch, answers), *pending]
            elif len(batch) > 1 and failure.out_of_memory:
                self.most_atoms = min(self.most_atoms, n_atoms // 2)
                pending = self._split([*batch, *itertools.chain(*pending)])
            elif len(batch) > 1:
                half = len(batch) // 2
                pending = [batch[:half], batch[half:], *pending]
            elif self._batches and not batch[0].alone:
                batch[0].alone = failure.message
                pending = [batch, *pending]
            else:
                self._judge(failure)
                batch[0].answer(failure)

    def _answer(self, walks: Sequence[Walk], answers: Sequence[Results]) -> list[list[Walk]]:
        """Give each its answer; return those of a batch that have none in finite numbers, to be computed alone."""
        left = []
        for walk, answer in zip(walks, answers, strict=True):
            if self._batches and not walk.alone and not answer.is_finite:
                walk.alone = NOT_FINITE
                left.append([walk])
            else:
                if answer.has_energy_and_forces:
                    self._remember(walk.place)
                else:
                    self._judge(Failure(NOT_FINITE_ALONE, out_of_memory=False))
                walk.answer(answer)
        return left

    def _remember(self, crystal: Atoms) -> None:
        """Remember that the potential has computed a crystal."""
        self._first_failure = ''
        if self._computed is None or len(crystal) < len(self._computed):
            self._computed = crystal.copy()

    def _judge(self, failure: Failure) -> None:
        """Raise RunError where one crystal has failed, and one that was computed before does so now.

        Where memory ran out the potential is not asked. Where none was computed before, `_judge_by_known_crystals` does
        it at the end: not every potential knows the elements of known crystals.
        """
        if failure.out_of_memory:
            return
        if self._computed is None:
            self._first_failure = self._first_failure or failure.message
        elif fault := self._find_fault(self._computed):
            raise RunError(
                f'{self._name} computes nothing any more, not even {self._computed.symbols}, which it had computed '
                f'before: {fault}'
            )

    def _judge_by_known_crystals(self) -> None:
        """Raise RunError where all crystals have failed, and known ones do so, too."""
        failure, self._first_failure = self._first_failure, ''
        if failure and all(self._find_fault(make()) for make in KNOWN_CRYSTALS.values()):
            raise RunError(
                f'{self._name} computes none of the crystals, and neither {" nor ".join(KNOWN_CRYSTALS)}: {failure}'
            )

    def _find_fault(self, crystal: Atoms) -> str:
        """Return why the potential cannot compute a crystal, neither alone nor in a batch; empty where it can."""
        ways: list[Callable[[], Results]] = [lambda: evaluate_alone(self._calculator, crystal)]
        if batches := self._batches:
            ways.append(lambda: batches.evaluate([crystal])[0])
        fault = ''
        for evaluate in ways:
            try:
                if evaluate().has_energy_and_forces:
                    return ''
                fault = fault or NOT_FINITE_ALONE
            except Exception as error:  # whatever the potential raises
                if is_out_of_memory(error):
                    return ''
                fault = fault or explain(error)
        return fault

    def _evaluate(self, walks: Sequence[Walk]) -> tuple[list[Results], Failure | None]:
        """Return what the potential says of crystals, or why it says nothing."""
        try:
            if self._batches is None or walks[0].alone:
                return [evaluate_alone(self._calculator, walk.place) for walk in walks], None
            return self._batches.evaluate([walk.place for walk in walks]), None
        except Exception as error:  # whatever the potential raises
            return [], Failure.of(error)


def _count(walks: Sequence[Walk]) -> int:
    return sum(walk.n_atoms for walk in walks)


def _free_memory() -> None:
    """Give back what a failed computation has taken, for the next one."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
