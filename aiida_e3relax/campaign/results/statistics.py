"""What a campaign found, in numbers with intervals: savings, energies, minima, and where the network helps."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from aiida_e3relax.calculations.pre_relaxer import NETWORK, PreRelaxer
from aiida_e3relax.campaign.results.classes import classify
from aiida_e3relax.campaign.results.estimates import (
    Correlation,
    Estimate,
    column_values,
    differs_between,
    median_of,
    percent_of,
    percent_saved,
    rank_correlation,
    signed_rank,
)
from aiida_e3relax.campaign.results.outcomes import COSTS, FAILURES, OUTCOMES, find_outcomes, pair_costs
from aiida_e3relax.workflows.comparison.legs import CHANGE

INITIAL_ERRORS = (
    'raw_start_energy_error_meV_per_atom',
    'raw_start_coordinate_mae_A',
    'raw_start_cell_shape_deviation_A2',
    'raw_start_volume_error_A3',
    'n_atoms',
)
START_ERRORS = (
    'start_energy_error_meV_per_atom',
    'start_coordinate_mae_A',
    'start_cell_shape_deviation_A2',
    'start_volume_error_A3',
)
"""Measures of a leg: how far its start was from its end."""
CLASSES_OF_ERROR = ('smallest', 'middle', 'largest')


@dataclasses.dataclass(frozen=True)
class Saving:
    """One cost over all structures that count, see `outcomes.pair_costs`.

    Attributes
    ----------
    cost
        `ionic_steps`, `electronic_steps`, `wall_time_s` or `core_time_s`.
    unknown
        Structures that count but of which this cost is not known; they are in none of the figures.
    without, with_network, saved
        Totals, in steps or s.
    percent
        Saved of the total without the network.
    less, same, more
        Structures that cost less with the network, the same and more.
    p_value
        Of Wilcoxon's signed-rank test, two-sided.
    """

    cost: str
    unknown: int
    without: float
    with_network: float
    saved: float
    percent: Estimate
    median_saved: Estimate
    less: int
    same: int
    more: int
    p_value: float | None


@dataclasses.dataclass(frozen=True)
class StartError:
    """A measure of the start of the relaxation, raw and predicted, over structures relaxed both ways.

    `raw` is what the Dummy has, which predicts that nothing moves.
    """

    measure: str
    raw: Estimate
    predicted: Estimate
    better: Estimate
    p_value: float | None


@dataclasses.dataclass(frozen=True)
class GroupSaving:
    """The ionic steps saved in a part of the structures."""

    name: str
    percent: Estimate


@dataclasses.dataclass(frozen=True)
class FailedStructure:
    """A structure that did not go straight, with what the chain says of it."""

    label: str
    chain_uuid: str | None
    outcome: str
    exit_status: int | None
    message: str | None


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a campaign found.

    Attributes
    ----------
    structures, outcomes, states, verdicts
        How many structures, in all and by outcome (all of `outcomes.OUTCOMES`), state and verdict of the guard.
    in_sample
        How many are in the sample that also gets a raw leg.
    pre_relaxer
        What made the starts of the predicted legs, as the subject of a sentence: `the network`, `the potential chgnet`.
    engines
        What computed: `VASP`, or the engines behind the stand-in, such as `gpaw`.
    savings
        By cost.
    energy_difference, absolute_energy_difference
        Medians of E(from the prediction) - E(from the raw structure) at the end and of its absolute value, in meV/atom,
        over structures relaxed both ways; `energy_p_value` is that of Wilcoxon's test against no difference.
    same_minimum
        Percent of the structures relaxed both ways whose legs end in the same minimum.
    starts
        How far the starts were from the ends.
    by_class, by_element, by_initial_error
        Ionic steps saved in parts of the structures; `class_p_value` is that of the Kruskal-Wallis test that the share
        saved is the same in all classes.
    correlations
        Of the ionic steps saved and of the errors with what was known before.
    failures
        Those structures, listed.
    """

    structures: int
    in_sample: int
    outcomes: dict[str, int]
    states: dict[str, int]
    verdicts: dict[str, int]
    pre_relaxer: str
    engines: tuple[str, ...]
    savings: dict[str, Saving]
    energy_difference: Estimate
    absolute_energy_difference: Estimate
    energy_p_value: float | None
    same_minimum: Estimate
    starts: tuple[StartError, ...]
    by_class: tuple[GroupSaving, ...]
    class_p_value: float | None
    by_element: tuple[GroupSaving, ...]
    by_initial_error: tuple[GroupSaving, ...]
    correlations: tuple[Correlation, ...]
    failures: tuple[FailedStructure, ...]

    @property
    def stand_in(self) -> bool:
        """Whether anything was computed by the stand-in, and not by VASP."""
        return any(engine != 'VASP' for engine in self.engines)

    def to_dict(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        return dataclasses.asdict(self)


def summarise(frame: pd.DataFrame, classes: Mapping[str, str] | None = None) -> Summary:
    """Return the summary of a campaign from its table, see `table.campaign_frame`.

    `classes` are those of the crystals by label, in the place of their chemistry; raises ValueError where they are not
    of all.
    """
    outcomes = find_outcomes(frame)
    costs = pair_costs(frame)
    both = frame[(outcomes == 'compared') & frame['in_sample'].astype(bool)]
    known = both.dropna(subset='energy_difference_final_meV_per_atom')  # a leg may have left no energy
    difference = column_values(known, 'energy_difference_final_meV_per_atom')
    same = both['same_minimum'].dropna()
    steps = costs['ionic_steps'].dropna()
    counted = frame.loc[steps.index]
    share_saved = 1 - steps['with'] / steps['without'].where(steps['without'] > 0)
    of_counted = classify(frame['elements'], classes)[counted.index]
    return Summary(
        structures=len(frame),
        in_sample=int(frame['in_sample'].astype(bool).sum()),
        outcomes={name: int((outcomes == name).sum()) for name in OUTCOMES},
        states=_count_values(frame['state']),
        verdicts=_count_values(frame['verdict']),
        pre_relaxer=_name_pre_relaxer(frame),
        engines=find_engines(frame),
        savings={cost: estimate_saving(cost, costs[cost]) for cost in COSTS},
        energy_difference=median_of(difference),
        absolute_energy_difference=median_of(np.abs(difference)),
        energy_p_value=signed_rank(difference),
        same_minimum=percent_of(int(same.sum()), len(same)),
        starts=tuple(_estimate_start_error(both, measure) for measure in START_ERRORS),
        by_class=tuple(_savings_of_groups(steps, {name: of_counted == name for name in sorted(set(of_counted))})),
        class_p_value=differs_between([part.dropna().to_numpy() for _, part in share_saved.groupby(of_counted)]),
        by_element=tuple(_savings_of_groups(steps, _having(counted['elements']))),
        by_initial_error=tuple(_savings_of_groups(steps, _thirds(counted['raw_start_energy_error_meV_per_atom']))),
        correlations=tuple(_correlate(frame, steps, both)),
        failures=tuple(_list_failures(frame, outcomes)),
    )


def find_pre_relaxers(frame: pd.DataFrame) -> list[str]:
    """Return what made the starts of the predicted legs; nothing of a table that an earlier version has written."""
    return sorted(set(frame['pre_relaxer'].dropna())) if 'pre_relaxer' in frame else []


def _name_pre_relaxer(frame: pd.DataFrame) -> str:
    titles = [PreRelaxer.from_record(text).title for text in find_pre_relaxers(frame) or [NETWORK]]
    subject = ' or '.join(f'{title[0].lower()}{title[1:]}' for title in titles)
    others = find_other_algos(frame)
    return f'{subject} with `{others["predicted"]}` in the place of `{others["raw"]}`' if others else subject


def find_other_algos(frame: pd.DataFrame) -> dict[str, str]:
    """Return by leg how VASP moved the ions, where that is not the same in both; {} where it is, or is not known.

    That is how their first runs did: a restart that changed it is a matter of one crystal.
    """
    if 'raw_algo' not in frame:
        return {}
    algos = frame[['raw_algo', 'predicted_algo']].dropna().map(lambda algo: algo.split(CHANGE)[0])
    mixed = algos[algos['raw_algo'] != algos['predicted_algo']]
    return {leg: ' or '.join(sorted(set(mixed[f'{leg}_algo']))) for leg in ('raw', 'predicted')} if len(mixed) else {}


def find_engines(frame: pd.DataFrame) -> tuple[str, ...]:
    """Return what computed the legs: `VASP`, the engines behind the stand-in."""
    engines = set()
    for leg in ('raw', 'predicted'):
        computed = frame[frame[f'{leg}_code_version'].notna()]
        engines |= set(computed[f'{leg}_stand_in'].fillna('VASP'))
    return tuple(sorted(engines))


def estimate_saving(cost: str, pairs: pd.DataFrame) -> Saving:
    """Return what is saved of a cost over pairs with the columns `without` and `with`, see `outcomes.pair_costs`."""
    known = pairs.dropna()
    without, with_network = column_values(known, 'without'), column_values(known, 'with')
    saved = without - with_network
    return Saving(
        cost=cost,
        unknown=len(pairs) - len(known),
        without=float(without.sum()),
        with_network=float(with_network.sum()),
        saved=float(saved.sum()),
        percent=percent_saved(without, with_network),
        median_saved=median_of(saved),
        less=int((saved > 0).sum()),
        same=int((saved == 0).sum()),
        more=int((saved < 0).sum()),
        p_value=signed_rank(saved),
    )


def _estimate_start_error(both: pd.DataFrame, measure: str) -> StartError:
    known = both[[f'raw_{measure}', f'predicted_{measure}']].dropna()
    raw, predicted = column_values(known, f'raw_{measure}'), column_values(known, f'predicted_{measure}')
    return StartError(
        measure=measure,
        raw=median_of(raw),
        predicted=median_of(predicted),
        better=percent_of(int((predicted < raw).sum()), len(known)),
        p_value=signed_rank(raw - predicted),
    )


def _savings_of_groups(steps: pd.DataFrame, masks: Mapping[str, pd.Series]) -> Iterator[GroupSaving]:
    for name, mask in masks.items():
        part = steps[mask]
        yield GroupSaving(name, percent_saved(column_values(part, 'without'), column_values(part, 'with')))


def _having(elements: pd.Series) -> dict[str, pd.Series]:
    """Return for each element which structures have it."""
    symbols = sorted({symbol for of_structure in elements for symbol in of_structure})
    return {symbol: elements.map(lambda of_structure, symbol=symbol: symbol in of_structure) for symbol in symbols}


def _thirds(errors: pd.Series) -> dict[str, pd.Series]:
    """Return which structures have the smallest, middle and largest errors; nothing where there are too few."""
    if errors.nunique() < len(CLASSES_OF_ERROR):
        return {}
    third = pd.qcut(errors.rank(method='first'), len(CLASSES_OF_ERROR), labels=list(CLASSES_OF_ERROR))
    return {name: third == name for name in CLASSES_OF_ERROR}


def _correlate(frame: pd.DataFrame, steps: pd.DataFrame, both: pd.DataFrame) -> Iterator[Correlation]:
    saved = column_values(steps, 'without') - column_values(steps, 'with')
    for column in INITIAL_ERRORS:
        others = column_values(frame.loc[steps.index], column)
        if found := rank_correlation('ionic_steps_saved', saved, column, others):
            yield found
    for measure in START_ERRORS:
        column = f'predicted_{measure}'
        if found := rank_correlation(
            column, column_values(both, column), 'uncertainty_A', column_values(both, 'uncertainty_A')
        ):
            yield found


def _list_failures(frame: pd.DataFrame, outcomes: pd.Series) -> Iterator[FailedStructure]:
    failed = frame[outcomes.isin(FAILURES)]
    for label, row in failed.iterrows():
        message = row['exit_message'] or '; '.join(row['remarks'] or ())
        yield FailedStructure(str(label), row['chain_uuid'], outcomes[label], row['exit_status'], message or None)


def _count_values(column: pd.Series) -> dict[str, int]:
    return {str(name): int(count) for name, count in column.dropna().value_counts().items()}
