"""The tables of `benchmarks/load.py`, in Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

Results = Mapping[str, Mapping[str, Any]]
FAULT_TITLES = (
    'fault',
    'structures',
    'ended well',
    'lost',
    'twice',
    'jobs of SLURM',
    'submitted twice',
    'begun twice',
    'ends, meV/atom off',
    'from the raw crystal',
    'by hand',
    'minutes',
)
AMISS = ('lost', 'twice', 'unended', 'begun_twice', 'submitted_twice', 'strays', 'left', 'different')
"""What of `load_audit.Audit` has to be empty where nothing is amiss."""
FAR = 1e-3
"""Å between two predictions of a crystal, above which they are not the same: float32 rounds otherwise in batches."""


def format_faults(results: Results) -> str:
    """Return a table of campaigns under faults."""
    lines = [f'| {" | ".join(FAULT_TITLES)} |', '|---' * len(FAULT_TITLES) + '|']
    for result in results.values():
        found = result['audit']
        largest = found['largest_difference']
        cells = [
            f'{result["title"]}{_format_times(result)}',
            result['structures'],
            result['structures'] - len(found['lost']),
            len(found['lost']),
            len(found['twice']),
            found['n_jobs'],
            sum(found['submitted_twice'].values()),
            len(found['begun_twice']),
            '' if largest is None else f'{largest:.2g}',
            len(found['other_leg']),
            format_given(result),
            f'{result["seconds"] / 60:.1f}',
        ]
        lines.append(f'| {" | ".join(map(str, cells))} |')
    return '\n'.join(lines)


def _format_times(result: Mapping[str, Any]) -> str:
    """Return how often the fault happened, where that is more than once."""
    what = [name for _, name in result['faults']]
    times = what.count(what[0]) if what else 0
    return '' if times < 2 else ', twice' if times == 2 else f', {times} times'


def format_given(result: Mapping[str, Any]) -> str:
    """Return the commands that a person gave so that a campaign went on."""
    counts = Counter(f'`{command}`' for _, command in result['given'])
    return ', '.join(f'{command} x{n}' if n > 1 else command for command, n in counts.items()) or 'nothing'


def format_details(results: Results) -> str:
    """Return what happened in each campaign, as a list."""
    lines = []
    for name, result in results.items():
        found = result['audit']
        events = Counter(what for _, what in result['faults'])
        told = [f'{n} x {what}' for what, n in events.items()]
        told += [f'`run` ended with {status}: {line}' for status, line in result['ends_of_run'] if status]
        told += [f'{len(found["tried_again"])} structures tried again'] if found['tried_again'] else []
        told += [f'chains that were {how}: {n}' for how, n in found['failed'].items()]
        told += [f'{found["more_steps"]:+d} ionic steps'] if found['more_steps'] else []
        told += [f'{key}: {", ".join(map(str, found[key]))}' for key in (*AMISS, 'other_leg') if found[key]]
        lines.append(f'- **{name}** ({"sound" if is_sound(result) else "AMISS"}): {"; ".join(told) or "nothing"}')
    return '\n'.join(lines)


def is_sound(result: Mapping[str, Any]) -> bool:
    """Return whether a campaign has ended, with nothing lost and nothing done twice."""
    return result['has_ended'] and not any(result['audit'][name] for name in AMISS)


def format_prediction(result: Mapping[str, Any]) -> str:
    """Return a table of thousands of predictions."""
    lines = [
        f'| {result["structures"]} structures, {result["atoms"]} atoms | predicted | seconds | of the network | '
        'CPU-s of AiiDA |',
        '|---' * 5 + '|',
    ]
    for name, title in (('one', 'in one job'), ('some', f'in {result["batches"]} jobs')):
        told = result[name]
        numbers = [told['seconds'], told['seconds_of_network'], told['cpu_of_aiida']]
        good = told['statuses'].get('ok', 0)
        lines.append(f'| {title} | {good} | {" | ".join(f"{number:.1f}" for number in numbers)} |')
    lines.append(
        f'\nThe two differ by {result["between_ways"]:.1g} A at most, and on {result["sample"]} of the structures by '
        f'{result["from_here"]:.1g} A from a prediction by the process itself; the largest shift is '
        f'{result["moved"]:.2g} A.'
    )
    return '\n'.join(lines)


def is_prediction_sound(result: Mapping[str, Any]) -> bool:
    """Return whether each structure came back once, in its place, with the same prediction whichever way."""
    n_jobs = sum(result[way]['jobs_of_aiida'] for way in ('one', 'some'))
    return (
        all(result[way]['statuses'] == {'ok': result['structures']} for way in ('one', 'some'))
        and result['in_order']
        and result['same_sites']
        and result['jobs_of_slurm'] == n_jobs == 1 + result['batches']
        and all(result[key] < FAR for key in ('between_ways', 'from_here'))
        and result['moved'] > FAR
    )


def format_in_flight(result: Mapping[str, Any]) -> str:
    """Return tables of what hundreds of chains at once ask of the machine."""
    from benchmarks.process_samples import tell_samples

    before, after, count = result['before'], result['after'], result['structures']
    waiting = [f'{cpu:.1f} where the scheduler is asked each {s} s' for s, cpu in result['spent_on_waiting'].items()]
    lines = [
        f'{count} chains, {result["most_at_once"]} of them at the same time, ended in {result["seconds"] / 60:.0f} '
        f'minutes on {result["workers"]} workers under a load of {result["load"]:.1f}; {result["connections"]} '
        f'connections to the database at most. {result["most_waiting"]} jobs of VASP waited in the queue after '
        f'{result["seconds_closed"] / 60:.0f} minutes, before the first began. An hour of a chain that waits costs the '
        f'workers in CPU-s: {", ".join(waiting)}. '
        f'VASP jobs took {result["cpu_of_vasp_jobs"] / count:.2f} CPU-s a chain.',
        '',
        # AiiDA's own broker is a process of the daemon; RabbitMQ is none, and not looked at.
        tell_samples({name: told for name, told in result['of_processes'].items() if told['most']}),
        '',
        '| the profile holds | before | after | for each chain |',
        '|---' * 4 + '|',
    ]
    for key, title in (
        ('nodes', 'nodes'),
        ('links', 'links'),
        ('database', 'database (MiB)'),
        ('files', 'files (MiB)'),
    ):
        first, last = before[key], after[key]
        lines.append(f'| {title} | {first:,.0f} | {last:,.0f} | {(last - first) / count:,.2f} |')
    return '\n'.join(lines)
