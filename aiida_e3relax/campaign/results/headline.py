"""The headline of a campaign: its main result in one sentence."""

from __future__ import annotations

from aiida_e3relax.campaign.results.estimates import Estimate
from aiida_e3relax.campaign.results.noise import format_energy
from aiida_e3relax.campaign.results.statistics import Summary
from aiida_e3relax.common.messages import count_of


def format_headline(summary: Summary) -> str:
    """Return the headline: what the network saved, how surely, and whether the ends are the same.

    It names the stand-in where that computed, and the sample where not every structure has a raw leg.
    """
    return ' '.join([_format_savings(summary), *_format_engines(summary)])


def _format_savings(summary: Summary) -> str:
    steps = summary.savings['ionic_steps']
    if steps.percent.value is None:
        counts = ', '.join(f'{count} {state}' for state, count in summary.states.items()) or 'there are none'
        return (
            f'None of your {_format_structures(summary)} was relaxed with and without {summary.pre_relaxer} ({counts}).'
        )
    saved = f'{_format_percent(steps.percent)} of the ionic steps{_format_interval(steps.percent)}'
    time = summary.savings['core_time_s']
    if time.percent.value is not None:
        saved += _format_core_time(time.saved, has_saved_steps=steps.percent.value >= 0)
    parts = [f'{_format_sample(summary)} {summary.pre_relaxer} {saved}']
    if (apart := summary.absolute_energy_difference.value) is not None:
        parts.append(f'median |dE| {format_energy(apart)} meV/atom')
    if summary.same_minimum.value is not None:
        parts.append(f'{summary.same_minimum.value:.0f} % same minimum')
    return f'{", ".join(parts)}.'


def _format_sample(summary: Summary) -> str:
    counted, structures = summary.savings['ionic_steps'].percent.n, _format_structures(summary)
    if counted == summary.structures:
        return f'On your {structures}'
    if summary.in_sample == summary.structures:
        return f'On {counted:,} of your {structures}'
    return f'On {counted:,} of your {structures}, a random sample,'


def _format_structures(summary: Summary) -> str:
    return count_of(summary.structures, 'structure')


def _format_percent(percent: Estimate) -> str:
    assert percent.value is not None
    return f'{"saved" if percent.value >= 0 else "cost an additional"} {abs(percent.value):.0f} %'


def _format_interval(percent: Estimate) -> str:
    """Return the interval of what was saved or, as `_format_percent` has it, of what it cost in addition."""
    assert percent.value is not None
    if percent.low is None or percent.high is None:
        return ''
    low, high = (percent.low, percent.high) if percent.value >= 0 else (-percent.high, -percent.low)
    return f' (95 % interval {low:z.0f} to {high:z.0f})'


def _format_core_time(seconds: float, has_saved_steps: bool) -> str:
    """Return a core time saved in a unit that suits it, to follow what was saved of the steps, or cost of them."""
    hours = abs(seconds) / 3600
    if hours >= 1000:
        text = f'{hours / 1000:.1f} k core-hours'
    elif hours >= 1:
        text = f'{hours:.3g} core-hours'
    else:
        text = f'{abs(seconds):.3g} core-seconds'
    if (seconds >= 0) is has_saved_steps:
        return f' and {text}'
    return f' but saved {text}' if seconds >= 0 else f' but cost {text} more'


def _format_engines(summary: Summary) -> list[str]:
    if not summary.stand_in:
        return []
    engines = ' and '.join(summary.engines)
    return [f'Computed by the VASP stand-in ({engines}), not by VASP.']


tell_headline = format_headline
"""The older name, which scripts of users have."""
