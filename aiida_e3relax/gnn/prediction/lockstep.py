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


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why a crystal got no further. It is no exception: that would keep the memory of what it was raised in."""

    message: str
    out_of_memory: bool

    @classmethod
    def of(cls, error: Exception) -> Self:
        """Return what is told of an error."""
        return cls(explain(error), is_out_of_memory(error))


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
                self.outcome = self._answer
                self.steps.close()
            else:
                self._place = next(self.steps) if self._answer is None else self.steps.send(self._answer)
        except StopIteration as end:
            self.outcome = end.value
        except Exception as error:  # wherever its steps lead, the others go on
            self.outcome = Failure.of(error)
        self.seconds += time.perf_counter() - start
        return self.outcome is None


class Lockstep:
    """Steps crystals by a potential, as many at once as it computes in a batch.

    A batch that fails is halved, down to the crystal whose fault it is: that is computed alone from then on, as is one
    whose numbers in a batch are not finite. Where memory ran out, the batches that follow are smaller.

    Attributes
    ----------
    most_atoms
        In a batch of more than one crystal.
    """

    def __init__(self, potential: Potential):
        self._calculator, self._batches = potential.calculator, potential.batches
        self.most_atoms = MOST_ATOMS if potential.batches else 0

    def run(self, walks: Iterable[Walk[T]], on_end: Callable[[Walk[T]], None]) -> None:
        """Take all `walks` to their ends, and call `on_end` with each; what finds no room in a batch waits for it.

        Nothing is raised for a crystal: its outcome is a `Failure`.
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
                batch[0].answer(failure)

    def _answer(self, walks: Sequence[Walk], answers: Sequence[Results]) -> list[list[Walk]]:
        """Give each its answer; return those of a batch that have none in finite numbers, to be computed alone."""
        left = []
        for walk, answer in zip(walks, answers, strict=True):
            if self._batches and not walk.alone and not answer.is_finite:
                walk.alone = NOT_FINITE
                left.append([walk])
            else:
                walk.answer(answer)
        return left

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
