"""What learning brought in a campaign: the learning curve by generation of the model, and what the rest will take."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from aiida_e3relax.campaign.results.estimates import Estimate, column_values, median_of
from aiida_e3relax.campaign.results.forecast import Forecast, JudgedGeneration, forecast_rest
from aiida_e3relax.campaign.results.outcomes import find_outcomes, pair_costs
from aiida_e3relax.campaign.results.statistics import estimate_saving, find_engines
from aiida_e3relax.campaign.submission.processes import State

LEFT = (State.WAITING.value, State.RUNNING.value)
NO_TURNS = (
    'the campaign was made without --learn, so that judges begin where they stand in the given order, and generations '
    'are judged by unlike parts of it'
)
"""Why generations are not compared."""


@dataclasses.dataclass(frozen=True)
class RoundResult:
    """A round of learning.

    Attributes
    ----------
    number, pk
        Which it is, and its work chain.
    after
        How many relaxations had finished when it was submitted.
    learnt
        How many pairs of the campaign it learnt from, those that decided when to stop among them; None where the round
        left none.
    state, message
        What became of it, and what it said where it failed.
    generation
        The number of the model that came out of it; None where that was not better, or there was none.
    evaluation
        The content of its output `evaluation`, the errors of both models on the judges; None where there is none.
    left_out
        How many relaxations that had finished were left out of it, by the reason.
    judges
        How many of what had finished judge.
    replayed
        How many pairs that the model had learnt before were learnt again, and how many were asked for; None where none
        were given, and of rounds of an earlier version.
    """

    number: int
    pk: int
    after: int
    learnt: int | None
    state: str
    message: str
    generation: int | None
    evaluation: Mapping[str, Any] | None = None
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)
    judges: int = 0
    replayed: tuple[int, int] | None = None


@dataclasses.dataclass(frozen=True)
class GenerationResult:
    """What the relaxations say of a generation of the model.

    Attributes
    ----------
    number
        Which it is.
    model, content_hash
        The UUID and the hash of its checkpoint.
    after, learnt
        Of the round that it came out of, see `RoundResult`; 0 for the first one.
    served
        The structures whose chain began with its prediction.
    saved
        Percent of the ionic steps that it saved, over the judges among them; `n` of it counts these.
    start_error, coordinate_error
        Medians over them of how far the start is from the end, in meV/atom and in A.
    uncertainty
        Median over them of what the model stated of its error, in A; nothing of an ensemble that is not calibrated.
    """

    number: int
    model: str
    content_hash: str
    after: int
    learnt: int
    served: tuple[str, ...]
    saved: Estimate
    start_error: Estimate
    coordinate_error: Estimate
    uncertainty: Estimate


@dataclasses.dataclass(frozen=True)
class LearningResult:
    """What learning brought.

    Attributes
    ----------
    generations, rounds
        In their order.
    order, every
        The settings.
    judges, finished
        How many structures judge, and how many relaxations have finished.
    engines
        What computed, see `statistics.find_engines`.
    judges_learnt
        How many of those that judge the model had learnt from before the campaign began.
    forecast
        What the rest takes; None where nothing is left, or nothing is known.
    has_turns
        Whether judges have their turn all along, as in a campaign that was made to learn; else they stand in the given
        order, and generations are judged by unlike parts of it.
    """

    generations: tuple[GenerationResult, ...]
    rounds: tuple[RoundResult, ...]
    order: str
    every: int | None
    judges: int
    finished: int
    engines: tuple[str, ...]
    forecast: Forecast | None
    has_turns: bool = True
    judges_learnt: int = 0


def summarise_learning(
    frame: pd.DataFrame,
    models: Sequence[tuple[str, str]],
    rounds: Sequence[RoundResult],
    order: str,
    every: int | None,
    has_turns: bool = True,
    uncalibrated: Collection[str] = (),
) -> LearningResult:
    """Return what learning brought, from the table of a campaign.

    Only structures that judge count in figures: they are drawn at random, have their turn all along, and are never
    learnt from. So each generation has a random sample of the campaign's structures, whatever the order of the others.
    Where judges have no turns the forecast goes by the newest generation that was judged alone.

    Parameters
    ----------
    frame
        As `table.campaign_frame` makes it.
    models
        The UUID and the content hash of each generation's checkpoint.
    rounds, order, every, has_turns
        As in `LearningResult`.
    uncalibrated
        The UUIDs of those whose stated uncertainty was not scaled to errors.
    """
    made_by = {each.generation: each for each in rounds if each.generation is not None}
    costs = pair_costs(frame)['ionic_steps'].dropna()
    is_judge = frame['judge'].map(bool)
    found, judged = [], []
    for number, (uuid, content_hash) in enumerate(models):
        rows = frame[frame['generation'] == number]
        steps = costs.loc[costs.index.intersection(rows.index[is_judge[rows.index]])].sort_index()
        both = rows.loc[steps.index]
        both = both[find_outcomes(both) == 'compared'] if len(both) else both
        made = made_by.get(number)
        found.append(
            GenerationResult(
                number,
                uuid,
                content_hash,
                after=made.after if made else 0,
                learnt=(made.learnt or 0) if made else 0,
                served=tuple(map(str, rows.index)),
                saved=estimate_saving('ionic_steps', steps).percent,
                start_error=_median(both, 'predicted_start_energy_error_meV_per_atom'),
                coordinate_error=_median(both, 'predicted_start_coordinate_mae_A'),
                uncertainty=_median(both.iloc[:0] if uuid in uncalibrated else both, 'uncertainty_A'),
            )
        )
        without, with_prediction = column_values(steps, 'without'), column_values(steps, 'with')
        judged.append(JudgedGeneration(found[-1].learnt, without, with_prediction))
    if not has_turns:
        judged = [each for each in judged if len(each.without)][-1:]
    finished = frame['state'] == State.FINISHED.value
    left = frame[frame['state'].isin(LEFT)]
    forecast = forecast_rest(
        judged,
        n_running=int((left['state'] == State.RUNNING.value).sum()),
        n_waiting=int((left['state'] == State.WAITING.value).sum()),
        n_raw=int(left['raw_leg_planned'].map(bool).sum()),
        could_learn=round(int((finished & ~is_judge).sum()) * _usable_share(rounds)),
    )
    return LearningResult(
        generations=tuple(found),
        rounds=tuple(rounds),
        order=order,
        every=every,
        judges=int(is_judge.sum()),
        finished=int(finished.sum()),
        engines=find_engines(frame),
        forecast=forecast if has_turns or forecast is None else dataclasses.replace(forecast, why=NO_TURNS),
        has_turns=has_turns,
    )


def _usable_share(rounds: Sequence[RoundResult]) -> float:
    """Return the share that the last round could learn from of what had finished and does not judge; 1 for no round.

    It is above 1 where legs of chains that failed were many of it.
    """
    for each in reversed(rounds):
        if each.learnt is not None and each.after > each.judges:
            return each.learnt / (each.after - each.judges)
    return 1.0


def _median(rows: pd.DataFrame, name: str) -> Estimate:
    values = column_values(rows, name)
    return median_of(values[np.isfinite(values)])
