"""How a campaign learns: after how many relaxations, in which order, and who judges."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiida_e3relax.calculations.train_parameters import TrainParameters
from aiida_e3relax.common.fields import choice, number, read_fields

GIVEN, RANDOM, UNCERTAIN, DIFFERENT = 'given', 'random', 'uncertain', 'different'
MEASURED = (UNCERTAIN, DIFFERENT)
"""The orders that go by what the newest model says of all structures that are left."""
FEWEST_JUDGES = 3
"""By fewer structures no model is judged."""
JUDGES = 0.1
"""The share of the structures that judge, if that is enough for `JUDGES_A_ROUND`."""
JUDGES_A_ROUND = 5
"""Of fewer structures no interval is given."""
MOST_JUDGES = 0.5
OF_TRAINING = ('replay', 'replay_of', 'code', 'parameters', 'options')
"""The settings that may be others from one round to the next: which structures judge and stop does not go by them."""


@dataclasses.dataclass(frozen=True)
class LearningSettings:
    """How a campaign learns.

    Attributes
    ----------
    every
        After how many finished relaxations a round follows the one before; None makes rounds by hand alone.
    order
        In which order structures are relaxed: as given, at random, by the stated uncertainty or by the distance to what
        is known, the largest first.
    judge
        The share of the structures, drawn at random, that judge the models and are never learnt from; None for
        `JUDGES`, or as many as make `JUDGES_A_ROUND` between two rounds.
    least
        How many relaxations there are to learn from before a round is made.
    val
        The share of the relaxations to learn from that decides when the training stops.
    wait
        Whether no chain starts while a round is due or running.
    replay
        How many pairs of `replay_of` are learnt from beside each relaxation, at most.
    replay_of
        The UUIDs of nodes of pairs that the model has learnt from before.
    code
        The UUID of the code that trains; None for the one that predicts.
    parameters
        As in `TrainParameters`, but for the name.
    options
        Of the training jobs, such as `resources`.
    """

    every: int | None = number(None, 1)
    order: str = choice(GIVEN, RANDOM, UNCERTAIN, DIFFERENT)
    judge: float | None = number(None, 0.001, 0.9)
    least: int = number(10, 2)
    val: float = number(0.15, 0.01, 0.8)
    wait: bool = False
    replay: float = number(1.0, 0, 100)
    replay_of: list[str] = dataclasses.field(default_factory=list)
    code: str | None = None
    parameters: dict[str, Any] = dataclasses.field(default_factory=dict)
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> LearningSettings:
        """Return the settings in a mapping; raises ValueError naming what is wrong, and what was expected."""
        settings = read_fields(cls, values, 'learn')
        settings.train_parameters('campaign')
        return settings

    def with_training(self, changes: Mapping[str, Any]) -> LearningSettings:
        """Return the settings with others of `OF_TRAINING`; raises ValueError naming what is wrong."""
        if strange := sorted(changes.keys() - set(OF_TRAINING)):
            raise ValueError(f'learn: expected changes of {", ".join(OF_TRAINING)}, found {strange[0]}')
        return self.from_mapping(self.record() | dict(changes)) if changes else self

    @property
    def judge_share(self) -> float:
        """The share of the structures that judge."""
        if self.judge is not None:
            return self.judge
        return min(max(JUDGES, JUDGES_A_ROUND / self.every), MOST_JUDGES) if self.every else JUDGES

    def train_parameters(self, name: str) -> dict[str, Any]:
        """Return the parameters of a training of a model of that name; raises ValueError for what they cannot be.

        Elements that the model does not know are learnt: VASP relaxes their raw crystals, which are pairs.
        """
        if 'name' in self.parameters:
            raise ValueError('learn: parameters: name: expected none, a round names its model; leave it out')
        parameters = {'new_elements': True, **self.parameters, 'name': name}
        TrainParameters.from_mapping(parameters, is_tuning=True)
        return parameters

    def record(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return dataclasses.asdict(self)


def shuffled(labels: Iterable[str], seed: int, what: str) -> list[str]:
    """Return labels in a random order that is the same each time, whatever the order and number of the labels.

    `what` makes orders for different ends independent of each other.
    """
    return sorted(labels, key=lambda label: hashlib.sha256(f'{seed} {what} {label}'.encode()).hexdigest())


def draw_judges(sample: Sequence[str], count: int, seed: int) -> list[str]:
    """Return `count` labels of a sample, drawn at random, or all where they are fewer; in the order of the sample."""
    drawn = set(shuffled(sample, seed, 'judge')[:count])
    return [label for label in sample if label in drawn]


def alternate(
    judges: Sequence[str], others: Sequence[str], share: float, started: tuple[int, int] = (0, 0)
) -> list[str]:
    """Return judges and others in one order, each in its own, so that all along `share` of what began are judges.

    `started` is how many judges, and how many of all, have begun before. What is left of either comes at the end.
    """
    n_judges, n_all = started
    left, rest = list(judges)[::-1], list(others)[::-1]
    mixed: list[str] = []
    while left and rest:
        is_judge = n_judges < share * (n_all + 1)
        mixed.append((left if is_judge else rest).pop())
        n_judges, n_all = n_judges + is_judge, n_all + 1
    return mixed + left[::-1] + rest[::-1]
