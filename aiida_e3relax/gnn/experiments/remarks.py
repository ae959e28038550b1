"""What stands below the tables of an experiment: how numbers were made, where and when, and what is not there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from aiida_e3relax.gnn.evaluation.evaluate import DUMMY
from aiida_e3relax.gnn.experiments.plan import Experiment
from aiida_e3relax.gnn.experiments.table import Outcome, data_title, one_line


def remarks(experiment: Experiment, found: Sequence[Outcome]) -> Iterator[str]:
    """Yield the lines below the tables of an experiment."""
    seeds = len({o.run.seed for o in found if o.run.variant != DUMMY})
    spread = ' ± standard deviation over the seeds' if seeds > 1 else ''
    yield (
        f'Mean over crystals{spread} (median over crystals). {seeds} seed{"s" if seeds > 1 else ""}. Dummy: the '
        'unrelaxed crystal itself. As filed: targets as their files have them; aligned: without rotation and drift.'
    )
    trained = [o for o in found if o.result and o.run.variant != DUMMY]
    yield from _places([place for o in trained if o.result for place in o.result.sessions])
    yield from _kernels(trained)
    yield from _chosen_on_what_is_measured(experiment, trained)
    yield from _refused(trained)
    faults = [f'{o.run.title}: {one_line(o.result.error)}' for o in found if o.result and o.result.error]
    pending = [o.run.title for o in found if o.is_pending]
    for title, lines in (('Failed', faults), ('Not done', pending)):
        if lines:
            yield from ['', f'{title}:', '', *(f'- {line}' for line in lines)]


def _refused(trained: Sequence[Outcome]) -> Iterator[str]:
    """Yield how many crystals of each data set and split models refuse: they are in the means as they came."""
    counts: dict[tuple[str, str, str, int, int], dict[str, None]] = {}
    for outcome in trained:
        for row in outcome.rows:
            if row['failed']:
                key = (outcome.run.data, row['data'], row['split'], row['pairs'], row['failed'])
                counts.setdefault(key, {})[outcome.run.variant] = None
    for (data, source, split, pairs, count), names in counts.items():
        yield (
            f'{data_title(data, source)}, {split}: {count} of {pairs} crystals are refused, as `e3relax predict` would '
            f'refuse them, and count as they came ({", ".join(names)}).'
        )


def _places(places: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield when and where it was measured, and how many jobs shared the machine, as far as that is known."""
    if not places:
        return
    dates = sorted({place['date'] for place in places if 'date' in place})
    when = '' if not dates else f' {dates[0]}' if len(dates) == 1 else f' {dates[0]} to {dates[-1]}'
    yield f'Measured{when} on {"; ".join(sorted({_machine(place) for place in places}))}.'
    timed = [place for place in places if place.get('trained') or place.get('inference_batches')]
    jobs = sorted({place['jobs'] for place in timed if 'jobs' in place})
    if jobs == [1]:
        yield 'Times are of one job at a time.'
    elif jobs:
        yield (
            f'Times are of {" or ".join(map(str, jobs))} jobs side by side, which share the machine: to quote times, '
            'measure with one.'
        )
    machines: dict[str, set[int]] = {}
    for place in timed:
        machines.setdefault(_machine(place), set()).update(place.get('inference_batches', ()))
    by_machine = {machine: sizes for machine, sizes in machines.items() if sizes}
    if len(by_machine) > 1:
        told = [f'{", ".join(map(str, sorted(sizes)))} on {machine}' for machine, sizes in sorted(by_machine.items())]
        yield f'Predictions were timed on several machines, in batches of {"; ".join(told)}.'


def _machine(place: dict[str, Any]) -> str:
    return f'{place.get("device")}, {place.get("threads")} threads, torch {place.get("torch")}'


def _kernels(trained: Sequence[Outcome]) -> Iterator[str]:
    """Yield which models were timed with kernels of their own and which without, where there are both."""
    names: dict[bool, dict[str, None]] = {True: {}, False: {}}
    for outcome in trained:
        if outcome.result and (has_kernels := outcome.result.last_told('has_kernels')) is not None:
            names[has_kernels][outcome.run.variant] = None
    if names[True] and names[False]:
        yield (
            f"In predictions of {', '.join(names[True])} kernels of this package's own sum the messages, in those of "
            f"{', '.join(names[False])} PyTorch's operations do: times compare implementations, too."
        )


def _chosen_on_what_is_measured(experiment: Experiment, trained: Sequence[Outcome]) -> Iterator[str]:
    """Yield the splits that are measured on though they chose the checkpoints."""
    chosen = {
        o.result.last_told('validation') or o.run.settings.validation
        for o in trained
        if o.result and o.run.settings is not None
    }
    if both := [split for split in experiment.measurement.splits if split in chosen]:
        yield (
            f'On the split {", ".join(both)} the best checkpoint of each training was chosen: errors there are too low '
            'for crystals that had no part in it.'
        )
