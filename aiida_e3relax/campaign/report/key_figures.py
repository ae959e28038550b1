"""The key figures at the top of a report: each a number with its interval, and what it counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from aiida_e3relax.campaign.results.estimates import Estimate
from aiida_e3relax.campaign.results.noise import format_energy
from aiida_e3relax.campaign.results.statistics import Saving, Summary


@dataclasses.dataclass(frozen=True)
class KeyFigure:
    """A figure with its name and unit, and a note on how sure it is and what it counts."""

    title: str
    value: str
    unit: str
    note: str


def list_key_figures(summary: Summary) -> list[KeyFigure]:
    """Return the figures of a campaign that have a value, the most important first."""
    return list(_iterate_key_figures(summary))


def describe_pairs(summary: Summary) -> str | None:
    """Return how many relaxations became shorter, and how likely chance alone would do that; None without pairs."""
    steps = summary.savings['ionic_steps']
    if not steps.percent.n:
        return None
    text = (
        f'With {summary.pre_relaxer} {steps.less:,} relaxations took fewer ionic steps, {steps.same:,} as many, and '
        f'{steps.more:,} more'
    )
    if steps.p_value is None:
        return f'{text}.'
    return f'{text} (Wilcoxon’s signed-rank test against no effect: p {_format_p_value(steps.p_value)}).'


def _iterate_key_figures(summary: Summary) -> Iterator[KeyFigure]:
    for title, cost in (('ionic steps saved', 'ionic_steps'), ('core time saved', 'core_time_s')):
        saving = summary.savings[cost]
        if saving.percent.value is not None:
            note = f'{_format_estimate(saving.percent, 0)}; {_format_total(saving)}'
            yield KeyFigure(title, _sign(saving.percent.value), '%', note)
    apart = summary.absolute_energy_difference
    if apart.value is not None:
        note = f'median difference of the two ends; {_format_estimate(apart, 2)}'
        yield KeyFigure('|ΔE| at the end', format_energy(apart.value), 'meV/atom', note)
    if summary.same_minimum.value is not None:
        yield KeyFigure(
            'same minimum', f'{summary.same_minimum.value:.0f}', '%', _format_estimate(summary.same_minimum, 0)
        )
    energy = next(change for change in summary.starts if change.measure == 'start_energy_error_meV_per_atom')
    if energy.raw.value is not None and energy.predicted.value is not None:
        value = f'{format_energy(energy.raw.value, 3)} → {format_energy(energy.predicted.value, 3)}'
        note = f'median energy of the start above its end, raw → predicted; n = {energy.raw.n:,}'
        yield KeyFigure('error of the start', value, 'meV/atom', note)
    yield KeyFigure(
        'relaxed both ways',
        f'{summary.outcomes["compared"]:,} of {summary.structures:,}',
        '',
        f'structures; {summary.in_sample:,} were to be relaxed from the raw crystal, too',
    )


def _format_estimate(estimate: Estimate, digits: int) -> str:
    """Return an estimate's interval and count."""
    if estimate.low is None or estimate.high is None:
        return f'n = {estimate.n:,}'
    return f'95 % interval {_sign(estimate.low, digits)} to {_sign(estimate.high, digits)}, n = {estimate.n:,}'


def _format_total(saving: Saving) -> str:
    if saving.cost == 'ionic_steps':
        return f'{saving.without:,.0f} without, {saving.with_network:,.0f} with'
    unit, size = ('h', 3600.0) if saving.without >= 3600 else ('s', 1.0)
    without, with_network = (
        f'{total:,.0f}' if total >= 1000 else f'{total:.3g}'
        for total in (saving.without / size, saving.with_network / size)
    )
    return f'{without} {unit} without, {with_network} {unit} with, prediction included'


def _format_p_value(p_value: float) -> str:
    return '< 0.0001' if p_value < 1e-4 else f'= {p_value:.2g}'


def _sign(value: float, digits: int = 0) -> str:
    """Return a number with a minus sign that is one, and never a negative zero."""
    return f'{value:z.{digits}f}'.replace('-', '−')
