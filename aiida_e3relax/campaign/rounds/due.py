"""When a round of learning is due."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

from aiida_e3relax.campaign.group import GroupExtras
from aiida_e3relax.campaign.rounds.history import History
from aiida_e3relax.campaign.rounds.settings import FEWEST_JUDGES, LearningSettings
from aiida_e3relax.campaign.settings import CampaignSettings
from aiida_e3relax.campaign.submission.processes import CampaignProcesses, State

FEWEST_LEARNT = 2
"""One to learn from, and one that decides when the training stops."""


@dataclasses.dataclass(frozen=True)
class RoundDue:
    """Whether a round is to be submitted now.

    Attributes
    ----------
    is_due
        Whether it is.
    finished, judges
        How many relaxations have finished, and how many of them judge.
    next_after
        After how many finished relaxations the next round is due; None where none comes by itself.
    lacks
        Why a round whose turn it is cannot be made yet; empty where it can.
    """

    is_due: bool
    finished: int
    judges: int
    next_after: int | None
    lacks: str = ''


def find_round(
    settings: CampaignSettings, extras: GroupExtras, processes: CampaignProcesses, history: History
) -> RoundDue:
    """Return whether a round is due: after so many more finished relaxations, or since a person has asked for one.

    One round runs at a time. By itself none follows where all structures have begun, since no prediction is left to be
    made better. One that could not be submitted is not tried again until the next one is due.
    """
    how, model = settings.how_to_learn, settings.chain.get('model')
    finished = [label for label in processes.chains if processes.chain_state(label) is State.FINISHED]
    judges = sum(label in settings.judge_set for label in finished) if finished else 0
    is_asked = extras.rounds_asked > len(history.rounds)
    begins = any(not tries for tries in processes.chains.values())
    fault = extras.round_fault
    last = max(history.last_after, fault['after'] if fault else 0)
    next_after = last + how.every if how.every and begins and model else None
    is_turn = next_after is not None and len(finished) >= next_after
    if fault and extras.rounds_asked <= fault['asked']:
        is_asked = False
    lacks = find_lack(len(finished) - judges, judges, FEWEST_LEARNT if is_asked else how.least)
    is_due = bool(model) and not history.is_running and (is_turn or is_asked) and not lacks
    return RoundDue(is_due, len(finished), judges, next_after, lacks if is_turn or is_asked else '')


def find_first_round(how: LearningSettings, order: Sequence[str], judges: Collection[str]) -> int | None:
    """Return after how many finished relaxations the first round can come by itself; None where none does.

    `order` are the structures as they begin, and it is taken that they finish so. None comes once all have begun, and
    so none after the last one has finished.
    """
    judging, n_judges = set(judges), 0
    for finished, label in enumerate(order[:-1], 1):
        n_judges += label in judging
        is_turn = how.every is not None and finished >= how.every
        if is_turn and not find_lack(finished - n_judges, n_judges, how.least):
            return finished
    return None


def find_lack(learnt: int, judges: int, least: int) -> str:
    """Return what a round lacks of relaxations to learn from and to judge by; empty where it lacks nothing."""
    if learnt >= least and judges >= FEWEST_JUDGES:
        return ''
    return (
        f'{least} finished relaxations to learn from and {FEWEST_JUDGES} that judge and are never learnt from; so far '
        f'{learnt} and {judges} have finished'
    )
