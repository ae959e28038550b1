"""Arms of a campaign side by side: what each start costs VASP, how surely they differ, and where they end."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from aiida_e3relax.campaign.results.arm_costs import (
    costs_of_arm,
    find_begun,
    find_other_raw_legs,
    find_raw_failed,
    is_relaxed_alone,
)
from aiida_e3relax.campaign.results.arm_starts import WithoutStart, find_without_start
from aiida_e3relax.campaign.results.classes import classify
from aiida_e3relax.campaign.results.estimates import (
    Estimate,
    column_values,
    holm,
    median_of,
    percent_of,
    percent_saved,
    signed_rank,
)
from aiida_e3relax.campaign.results.outcomes import COSTS, STOPPED, TIMES, find_outcomes, own_cost, pair_costs
from aiida_e3relax.campaign.results.statistics import Saving, estimate_saving, find_engines
from aiida_e3relax.workflows.comparison.ledger import SAME_ENERGY

RAW = 'raw'
"""The name of the raw crystals as a start."""
SAME_MEV = 1e3 * SAME_ENERGY
"""In meV/atom; ends further apart are not of the same minimum."""
WORSE_BY = 1
"""Ionic steps. An arm is worse on a crystal where it takes more steps than this above those of the raw crystal."""
ENERGY = 'energy_final_eV_per_atom'
PAIR_COSTS = ('ionic_steps', 'electronic_steps', 'core_time_s')
"""The costs in which starts are held against each other, the core time where all arms have it of all crystals."""


@dataclasses.dataclass(frozen=True)
class ArmSummary:
    """One arm over the structures that all arms have, against the raw crystals.

    Attributes
    ----------
    name
        Of the arm.
    structures, counted
        How many structures the arm has, and of how many of them both costs are known.
    rejected, no_start
        The structures whose prediction the guard rejected, and those without one. They cost what the raw crystal does.
    savings
        By cost, see `outcomes.pair_costs`, over the structures `ArmsComparison.known` of it; times have what the arm
        itself took in them.
    own_time
        What the arm itself took in the core time, the network or the potential, in s of a core or a GPU.
    start_error, raw_start_error
        Medians of the energy of the start above the end of its relaxation, in meV/atom, of structures relaxed both
        ways, from the arm and from the raw crystal.
    same_minimum
        Percent of the structures relaxed both ways that end in the same minimum as from the raw crystal.
    lower, higher
        By label how far beyond `SAME_MEV` the end is below or above the one from the raw crystal, in meV/atom.
    other_structure
        The crystals whose end is within `SAME_MEV` of that from the raw crystal, and another structure.
    worse
        By label how many ionic steps more than from the raw crystal, where they are more than `WORSE_BY`.
    best, tied
        For how many crystals no other start, the raw one among them, takes as few ionic steps, and for how many some
        do.
    failed, stopped
        The crystals of the sample on which VASP failed from the arm, and all whose chain left no figures.
    rescued
        On how many crystals VASP finished from the arm, of those on which it failed from the raw one.
    """

    name: str
    structures: int
    counted: int
    rejected: WithoutStart
    no_start: WithoutStart
    savings: dict[str, Saving]
    own_time: float
    start_error: Estimate
    raw_start_error: Estimate
    same_minimum: Estimate
    lower: dict[str, float]
    higher: dict[str, float]
    other_structure: tuple[str, ...]
    worse: dict[str, int]
    best: int
    tied: int
    failed: tuple[str, ...]
    stopped: tuple[str, ...]
    rescued: int


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two starts over the structures `ArmsComparison.known` of a cost.

    One of them may be `RAW`, which is then the raw leg of the other one.

    Attributes
    ----------
    cost
        One of `PAIR_COSTS`.
    more, fewer
        The start that costs more in all, and the one that costs less; in the order of names where they cost the same.
    percent
        What `fewer` saves of what `more` costs.
    n_fewer, n_same, n_more
        The structures on which `fewer` costs less, the same and more.
    p_value, corrected
        Of Wilcoxon's signed-rank test over structures, two-sided, and by Holm's method for all pairs of starts, the raw
        crystals among them, in this cost; None where no structure differs, and of a single one.
    """

    cost: str
    more: str
    fewer: str
    percent: Estimate
    n_fewer: int
    n_same: int
    n_more: int
    p_value: float | None
    corrected: float | None


@dataclasses.dataclass(frozen=True)
class ClassOfCompounds:
    """The ionic steps of each start on compounds of one class.

    Attributes
    ----------
    name, n
        Of the class, and its crystals.
    steps
        In all, by start.
    least
        The start with the smallest sum, or those.
    first, second
        The start with the smallest sum and that with the next, in the order given where they are the same.
    n_fewer, n_same, n_more
        The crystals on which `first` takes fewer steps than `second`, as many and more.
    """

    name: str
    n: int
    steps: dict[str, float]
    least: tuple[str, ...]
    first: str
    second: str
    n_fewer: int
    n_same: int
    n_more: int


@dataclasses.dataclass(frozen=True)
class ArmsComparison:
    """Arms side by side.

    Attributes
    ----------
    n
        The structures that all arms have, which all figures are of but for those of a cost.
    known
        By cost the structures among them of which all arms have it, with and without the prediction.
    raw_failed
        All structures on which VASP failed from the raw crystal.
    raw_of
        The arm whose raw legs are those of `RAW` in `by_crystal`, and in all that is made of it, where arms have not
        the same ones: the first by name. Empty where they have.
    raw_steps, raw_best, raw_tied
        The ionic steps from the raw crystals in all, and for how many crystals no start takes fewer, alone or not.
    arms
        In the order given.
    pairs
        Of all starts with each other, by cost, see `PAIR_COSTS`.
    classes
        By chemistry, or as they were given.
    minima
        The structures of any arm whose ends are not all in one minimum, by energy or by structure, and by start how far
        the end is above the lowest, in meV/atom; NaN where a start has no end of its own.
    by_crystal
        One row a structure of any arm: what it is, and the figures of each start in columns `START: FIGURE`.
    engines
        What computed: `VASP`, or the engines behind the stand-in.
    notes
        What a person should know of the arms before comparing them.
    """

    n: int
    known: dict[str, tuple[str, ...]]
    raw_failed: tuple[str, ...]
    raw_of: str
    raw_steps: float
    raw_best: int
    raw_tied: int
    arms: tuple[ArmSummary, ...]
    pairs: dict[str, tuple[Pair, ...]]
    classes: tuple[ClassOfCompounds, ...]
    minima: pd.DataFrame
    by_crystal: pd.DataFrame
    engines: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def stand_in(self) -> bool:
        """Whether anything was computed by the stand-in, and not by VASP."""
        return any(engine != 'VASP' for engine in self.engines)

    @property
    def ranking(self) -> list[ArmSummary]:
        """The arms, the one with the fewest ionic steps first."""
        return sorted(self.arms, key=lambda arm: (arm.savings['ionic_steps'].with_network, arm.name))

    def steps_of(self, start: str) -> pd.Series:
        """Return the ionic steps from a start over the structures that all arms have, by label."""
        common = self.by_crystal[self.by_crystal['in_all']]
        return common[column(start, 'ionic_steps')].astype('float64')


def column(start: str, figure: str) -> str:
    """Return the name of a column of `ArmsComparison.by_crystal`."""
    return f'{start}: {figure}'


def compare_arms(
    frames: Mapping[str, pd.DataFrame],
    classes: Mapping[str, str] | None = None,
    bases: Iterable[pd.DataFrame] = (),
) -> ArmsComparison:
    """Return arms side by side, from the table of each by its name, see `table.campaign_frame`.

    An arm costs what `outcomes.pair_costs` counts: where its prediction is rejected the steps from the raw crystal,
    where VASP failed from it both. Each arm is held against its own raw legs. The order of the arms and of their
    structures changes no number. `classes` are those of the crystals by label, in the place of their chemistry. `bases`
    are the tables of base campaigns of the arms: they say where VASP failed from the raw crystal.

    An arm of which nothing has ended is left out, so that it does not keep the others from being compared.

    Raises ValueError where there is no arm, or one that is called `RAW`, and for crystals that have no class.
    """
    if not frames or RAW in frames:
        raise ValueError(f'arms: expected at least one and none named `{RAW}`, found {", ".join(frames) or "none"}')
    frames = find_begun(frames)
    costs = {name: pair_costs(frame) for name, frame in frames.items()}
    counted = {name: set(_known(pairs, 'ionic_steps').index) for name, pairs in costs.items()}
    raw_failed = find_raw_failed([*frames.values(), *bases])
    common = sorted(set.intersection(*counted.values()))
    known = {
        cost: tuple(sorted(set(common).intersection(*(_known(pairs, cost).index for pairs in costs.values()))))
        for cost in COSTS
    }
    by_crystal = _list_crystals(frames, costs, raw_failed, common, classes)
    starts = [RAW, *frames]
    steps = by_crystal.loc[common, [column(start, 'ionic_steps') for start in starts]]
    steps = steps.set_axis(starts, axis=1).astype('float64')
    best, tied = _count_best(steps)
    arms = [
        _summarise_arm(name, frame, costs[name], len(counted[name]), common, known, raw_failed, best[name], tied[name])
        for name, frame in frames.items()
    ]
    return ArmsComparison(
        n=len(common),
        known=known,
        raw_failed=raw_failed,
        raw_of=min(frames) if find_other_raw_legs(frames.values()) else '',
        raw_steps=float(steps[RAW].sum()),
        raw_best=best[RAW],
        raw_tied=tied[RAW],
        arms=tuple(arms),
        pairs={
            cost: _compare_pairs(cost, costs, list(known[cost]))
            for cost in PAIR_COSTS
            if cost not in TIMES or len(known[cost]) == len(common)
        },
        classes=tuple(_compare_classes(steps, by_crystal.loc[common, 'class'])),
        minima=_find_minima(by_crystal, starts),
        by_crystal=by_crystal,
        engines=tuple(sorted({engine for frame in frames.values() for engine in find_engines(frame)})),
    )


def _known(pairs: pd.DataFrame, cost: str) -> pd.DataFrame:
    """Return the pairs of a cost of which both are known, in the order of labels, on which resampling depends."""
    return pairs[cost].dropna().sort_index()


def _summarise_arm(
    name: str,
    frame: pd.DataFrame,
    costs: pd.DataFrame,
    counted: int,
    common: list[str],
    known: Mapping[str, tuple[str, ...]],
    raw_failed: tuple[str, ...],
    best: int,
    tied: int,
) -> ArmSummary:
    rows = frame.loc[common]
    outcomes = find_outcomes(frame).sort_index()
    both = rows[find_outcomes(rows) == 'compared'] if common else rows
    same = both['same_minimum'].dropna()
    ends = both['energy_difference_final_meV_per_atom'].dropna()
    steps = costs.loc[common, 'ionic_steps']
    more = steps['with'] - steps['without']
    return ArmSummary(
        name=name,
        structures=len(frame),
        counted=counted,
        rejected=find_without_start(rows, 'rejected'),
        no_start=find_without_start(rows, 'no prediction'),
        savings={cost: estimate_saving(cost, costs.loc[list(known[cost]), cost]) for cost in COSTS},
        own_time=float(own_cost(frame.loc[list(known['core_time_s'])], 'core_time_s').sum()),
        start_error=_median(both, 'predicted_start_energy_error_meV_per_atom'),
        raw_start_error=_median(both, 'raw_start_energy_error_meV_per_atom'),
        same_minimum=percent_of(int(same.sum()), len(same)),
        lower={str(label): -float(value) for label, value in ends.items() if value < -SAME_MEV},
        higher={str(label): float(value) for label, value in ends.items() if value > SAME_MEV},
        other_structure=tuple(both.index[_is_other_structure(both)]),
        worse={str(label): int(value) for label, value in more.items() if value > WORSE_BY},
        best=best,
        tied=tied,
        failed=tuple(sorted(frame.index[frame['in_sample'].astype(bool) & (frame['predicted_finished'] == False)])),  # noqa: E712
        stopped=tuple(outcomes.index[outcomes.isin(STOPPED)]),
        rescued=int((frame.loc[frame.index.isin(raw_failed), 'predicted_finished'] == True).sum()),  # noqa: E712
    )


def _median(rows: pd.DataFrame, name: str) -> Estimate:
    values = column_values(rows, name)
    return median_of(values[np.isfinite(values)])


def _count_best(steps: pd.DataFrame) -> tuple[dict[str, int], dict[str, int]]:
    """Return for how many structures each start takes the fewest steps, alone and as others do."""
    is_least = steps.eq(steps.min(axis=1), axis=0)
    alone = is_least.sum(axis=1) == 1
    counts = [is_least[rows].sum() for rows in (alone, ~alone)]
    best, tied = ({str(start): int(count) for start, count in count.items()} for count in counts)
    return best, tied


def _compare_pairs(cost: str, costs: Mapping[str, pd.DataFrame], labels: list[str]) -> tuple[Pair, ...]:
    """Return all starts against each other in a cost, over the structures `labels`, and each against its raw legs."""
    known = {name: pairs.loc[labels, cost] for name, pairs in costs.items()}
    pairs = []
    for one, other in itertools.combinations([RAW, *known], 2):
        spent = {start: column_values(known[start], 'with') for start in (one, other) if start != RAW}
        if one == RAW:
            spent[RAW] = column_values(known[other], 'without')
        fewer, more = sorted(spent, key=lambda start: (spent[start].sum(), start))
        without, with_less = spent[more], spent[fewer]
        saved = without - with_less
        counts = (int((saved > 0).sum()), int((saved == 0).sum()), int((saved < 0).sum()))
        p_value = signed_rank(saved)
        pairs.append(Pair(cost, more, fewer, percent_saved(without, with_less), *counts, p_value, None))
    corrected = holm([pair.p_value for pair in pairs])
    return tuple(dataclasses.replace(pair, corrected=p_value) for pair, p_value in zip(pairs, corrected, strict=True))


def _compare_classes(steps: pd.DataFrame, classes: pd.Series) -> list[ClassOfCompounds]:
    compared = []
    for name, part in steps.groupby(classes):
        totals = {str(start): float(total) for start, total in part.sum().items()}
        least = min(totals.values())
        first, second, *_ = sorted(totals, key=lambda start: totals[start])
        saved = part[second] - part[first]
        compared.append(
            ClassOfCompounds(
                name=str(name),
                n=len(part),
                steps=totals,
                least=tuple(start for start, total in totals.items() if total == least),
                first=first,
                second=second,
                n_fewer=int((saved > 0).sum()),
                n_same=int((saved == 0).sum()),
                n_more=int((saved < 0).sum()),
            )
        )
    return compared


def _is_other_structure(rows: pd.DataFrame) -> pd.Series:
    """Return of which rows the end is of the same energy as that from the raw crystal, and not in the same minimum."""
    apart = rows['energy_difference_final_meV_per_atom'].astype('float64').abs()
    return (rows['same_minimum'] == False) & (apart <= SAME_MEV)  # noqa: E712


def _find_minima(by_crystal: pd.DataFrame, starts: list[str]) -> pd.DataFrame:
    """Return by start how far the ends are above the lowest, of structures whose ends are not all in one minimum."""
    energies = by_crystal[[column(start, ENERGY) for start in starts]].set_axis(starts, axis=1).astype('float64')
    above = 1e3 * energies.sub(energies.min(axis=1), axis=0)
    others = by_crystal[[column(start, 'other_structure') for start in starts if start != RAW]]
    return above[(above.max(axis=1) > SAME_MEV) | (others == True).any(axis=1)]  # noqa: E712


def _list_crystals(
    frames: Mapping[str, pd.DataFrame],
    costs: Mapping[str, pd.DataFrame],
    raw_failed: tuple[str, ...],
    common: list[str],
    classes: Mapping[str, str] | None,
) -> pd.DataFrame:
    """Return the table `ArmsComparison.by_crystal`, in the order of labels."""
    labels = sorted(set().union(*(frame.index for frame in frames.values())))
    table = pd.DataFrame(index=pd.Index(labels, name='label'))
    by_name = [(frames[name], costs[name]) for name in sorted(frames)]
    told = {key: [frame[key] for frame, _ in by_name] for key in ('formula', 'elements', 'n_atoms')}
    told |= {column(RAW, cost): [pairs[cost, 'without'] for _, pairs in by_name] for cost in COSTS}
    told[column(RAW, ENERGY)] = [frame[f'raw_{ENERGY}'] for frame, _ in by_name]
    for key, columns in told.items():
        known = pd.concat([values.dropna() for values in columns])
        table[key] = known[~known.index.duplicated()].reindex(labels)
    table.insert(1, 'class', classify(table.pop('elements'), classes))
    table.insert(3, 'in_all', table.index.isin(common))
    for name, frame in frames.items():
        outcomes = find_outcomes(frame)
        compared = outcomes == 'compared'
        own = costs_of_arm(frame, costs[name], raw_failed)
        figures = {
            'outcome': outcomes,
            **{cost: own[cost] for cost in COSTS},
            'own_time_s': own_cost(frame, 'core_time_s').where(frame['network_wall_time_s'].notna()),
            'start_energy_error_meV_per_atom': frame['predicted_start_energy_error_meV_per_atom'],
            ENERGY: frame[f'predicted_{ENERGY}'].where(compared | is_relaxed_alone(frame, raw_failed)),
            'energy_difference_final_meV_per_atom': frame['energy_difference_final_meV_per_atom'],
            'same_minimum': frame['same_minimum'],
            'other_structure': _is_other_structure(frame).where(compared, None),
        }
        for figure, values in figures.items():
            table[column(name, figure)] = values.reindex(table.index)
    return table
