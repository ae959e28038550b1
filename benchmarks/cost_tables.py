"""Tell from what `cost_model.py` has measured what a campaign costs a structure, and what 100,000 of them would.

python -m benchmarks.cost_tables FOLDER/costs.json
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

MANY = 100_000
CONFIDENCE = 0.95
SIZES_PART, KNOBS_PART = 'sizes', 'knobs'
BASE, AGAIN = 'as it is', 'as it is, once more'
"""The cases with no knob turned."""
TOTAL = 'AiiDA together: CPU s'
OF_TOTAL = (
    *('`create`: CPU s', 'PostgreSQL for `create`: CPU s', '`run`: CPU s', 'workers: CPU s', 'their shells: CPU s'),
    *('PostgreSQL: CPU s', 'broker: CPU s', 'circus: CPU s'),
)
"""What a campaign takes of processors from its creation to its end; the jobs themselves are left out."""
WORKERS = ('workers: CPU s', 'their shells: CPU s')
OF_CHAINS = (*WORKERS, 'PostgreSQL: CPU s', 'broker: CPU s')
"""What chains take, without the commands, whose imports weigh much in a small campaign."""
MONTH = 30 * 24  # h


@dataclasses.dataclass(frozen=True)
class Run:
    """A campaign that has been measured.

    Attributes
    ----------
    name
        Of the campaign.
    part, case
        Why it ran, and which knob was turned.
    count
        The structures.
    wall
        From the first submission to the end of the last chain, in s.
    load
        Of the machine at the end.
    values
        What it took, by resource; the unit stands in the name.
    """

    name: str
    part: str
    case: str
    count: int
    wall: float
    load: float
    values: dict[str, float]

    @property
    def costs(self) -> dict[str, float]:
        """The values, and the CPU time of all that AiiDA runs."""
        return {TOTAL: sum(self.values.get(title, 0.0) for title in OF_TOTAL), **self.values}


@dataclasses.dataclass
class Costs:
    """All that has been measured.

    Attributes
    ----------
    machine
        When and where.
    runs
        The campaigns.
    kinds, tables, packing
        Where the bytes are: `cost_resources.Kinds`; MiB by table of the database; storage after each step of packing.
    controller
        By number of structures: seconds of a look, of the table and of a report, the report's memory and size.
    network
        CPU time of one job of the network in s by number of crystals.
    """

    machine: str
    runs: list[Run] = dataclasses.field(default_factory=list)
    kinds: dict[str, Any] = dataclasses.field(default_factory=dict)
    tables: dict[str, float] = dataclasses.field(default_factory=dict)
    packing: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    controller: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    network: dict[str, float] = dataclasses.field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Costs:
        """Return what `write` wrote."""
        content = json.loads(path.read_text(encoding='utf-8'))
        return cls(**content | {'runs': [Run(**run) for run in content['runs']]})

    def find_run(self, part: str, case: str, count: int) -> Run | None:
        """Return the campaign that was measured for this; None where there is none."""
        return next((run for run in self.runs if (run.part, run.case, run.count) == (part, case, count)), None)

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1), encoding='utf-8')


@dataclasses.dataclass(frozen=True)
class Line:
    """A straight line through what campaigns of several sizes took.

    Attributes
    ----------
    fixed, each
        What a campaign takes, and what each structure adds.
    error
        Half the 95 % interval of `each`; NaN of fewer than three campaigns.
    deviation
        The largest distance of a campaign from the line, as a share of what it took.
    """

    fixed: float
    each: float
    error: float
    deviation: float

    def at(self, count: int) -> tuple[float, float]:
        """Return what `count` structures take, and half the 95 % interval, as far as the line goes on."""
        return self.fixed + self.each * count, self.error * count


def fit_line(counts: Sequence[int], values: Sequence[float]) -> Line:
    """Return the line of least squares; raises ValueError of fewer than two sizes."""
    if len(set(counts)) < 2:
        raise ValueError(f'a line: expected campaigns of at least two sizes, found {sorted(set(counts))}')
    found = stats.linregress(counts, values)
    free = len(counts) - 2
    error = float(stats.t.ppf((1 + CONFIDENCE) / 2, free) * found.stderr) if free else float('nan')
    taken = np.array(values, dtype=float)
    apart = np.abs(taken - found.intercept - found.slope * np.array(counts))
    deviation = float(np.max(apart / np.where(taken, np.abs(taken), np.inf)))
    return Line(float(found.intercept), float(found.slope), error, deviation)


def fit_sizes(costs: Costs) -> dict[str, Line]:
    """Return a line for each resource through the campaigns of several sizes."""
    runs = [run for run in costs.runs if run.part == SIZES_PART]
    if len({run.count for run in runs}) < 2:
        return {}
    counts = [run.count for run in runs]
    return {title: fit_line(counts, [run.costs[title] for run in runs]) for title in runs[0].costs}


def describe_costs(costs: Costs) -> str:
    """Return all tables for which something has been measured, in Markdown."""
    parts = [
        describe_sizes(costs),
        describe_many(costs),
        describe_knobs(costs),
        describe_bytes(costs),
        describe_controller(costs),
        describe_network(costs),
    ]
    return '\n\n'.join([costs.machine, *(part for part in parts if part)])


def describe_sizes(costs: Costs) -> str:
    """Return what campaigns of each size took on average, and the lines through all of them."""
    lines = fit_sizes(costs)
    if not lines:
        return ''
    runs = [run for run in costs.runs if run.part == SIZES_PART]
    sizes = sorted({run.count for run in runs})
    heads = [f'{size} structures' for size in sizes]
    rows = [_row('a campaign of', *heads, 'each more (95 %)', 'fixed', 'off the line'), _rule(len(sizes) + 4)]
    for title, line in lines.items():
        means = (np.mean([run.costs[title] for run in runs if run.count == size]) for size in sizes)
        taken = (_number(float(mean)) for mean in means)
        each = f'{_number(line.each)} ({_interval(line.each, line.error)})'
        rows.append(_row(title, *taken, each, _number(line.fixed), f'{100 * line.deviation:.0f} %'))
    loads = ', '.join(f'{run.load:.1f}' for run in runs)
    paces = ', '.join(f'{3600 * run.count / run.wall:.0f}' for run in runs)
    counts = ', '.join(str(run.count) for run in runs)
    return '\n'.join([*rows, '', f'Campaigns of {counts}: load at the end {loads}; chains an hour {paces}.'])


def describe_many(costs: Costs) -> str:
    """Return what `MANY` structures take as far as the lines go on."""
    lines = fit_sizes(costs)
    if not lines:
        return ''
    rows = [_row(f'{MANY:,} structures', 'by the line', '95 %'), _rule(3)]

    def add(title: str, line: Line, unit: float) -> None:
        value, error = line.at(MANY)
        rows.append(_row(title, _number(value / unit), _interval(value / unit, error / unit)))

    for title, line in lines.items():
        if title.endswith('CPU s'):
            add(title.replace('CPU s', 'core-hours'), line, 3600)
        elif 'MiB' in title:
            add(title.replace('MiB', 'GiB'), line, 1024)
        else:
            add(f'{title}, thousands', line, 1000)
    line = _add_lines(lines[title] for title in WORKERS)
    add(f'workers that are never idle, for {MONTH} h', line, 3600 * MONTH)
    return '\n'.join(rows)


def describe_knobs(costs: Costs) -> str:
    """Return what each knob makes of a campaign of the same size, against the mean of those with none turned.

    The CPU time is that of workers, database and broker; the commands take as much whatever the knobs.
    """
    runs = [run for run in costs.runs if run.part == KNOBS_PART]
    bases = [run for run in runs if run.case in (BASE, AGAIN)]
    if not bases:
        return ''
    keys = {
        'nodes': 'nodes',
        'jobs': 'jobs',
        'database MiB': 'database: MiB',
        'repository MiB': 'repository: MiB',
        'on disk': 'repository: MiB on disk',
        'files': 'repository: files',
        "computer's folder MiB": "the computer's folder: MiB",
    }
    head = (f'{bases[0].count} structures', 'CPU s', 'ratio', *keys, 'wall s')
    rows = [_row(*head), _rule(len(head))]
    mean = float(np.mean([_sum_chains(run) for run in bases]))
    for run in runs:
        total = _sum_chains(run)
        kept = (_number(run.costs[key]) for key in keys.values())
        rows.append(_row(run.case, _number(total), f'{total / mean:.2f}', *kept, f'{run.wall:.0f}'))
    return '\n'.join(rows)


def describe_bytes(costs: Costs) -> str:
    """Return where the bytes are, how they grow, and what packing makes of them."""
    if not costs.kinds:
        return ''
    sizes = sorted(costs.kinds['sizes'].items(), key=lambda item: -item[1])
    parts = [[_row(f'mean of {costs.kinds["n_jobs"]} jobs of VASP', 'kB'), _rule(2)]]
    parts[-1] += [_row(name, f'{size / 1e3:.2f}') for name, size in sizes if size >= 50]
    parts.append([_row('grows with', 'bytes of a job', 'a step more', 'a step and atom more'), _rule(4)])
    parts[-1] += [_row(name, *(f'{part:.0f}' for part in growth)) for name, growth in costs.kinds['growth'].items()]
    parts.append([_row('table of the database, with indices', 'MiB'), _rule(2)])
    parts[-1] += [_row(f'`{name}`', f'{size:.2f}') for name, size in costs.tables.items()]
    keys = ('database: MiB', 'repository: MiB', 'repository: MiB on disk', 'repository: files', 'wall s')
    parts.append([_row('all campaigns', *keys), _rule(len(keys) + 1)])
    parts[-1] += [_row(step, *(_number(values[key]) for key in keys)) for step, values in costs.packing.items()]
    return '\n\n'.join('\n'.join(rows) for rows in parts)


def describe_controller(costs: Costs) -> str:
    """Return how long looks and reports take, and how they grow."""
    titles = {
        'first look': 'the first look of `run`, s',
        'look': 'each other look, s',
        'table': '`campaign_frame`, s',
        'report': '`report`, CPU s',
        'report MiB': '`report`, MiB at most',
        'page MB': 'its page, MB',
    }
    rows = []
    for key, title in titles.items():
        found = [(int(count), values[key]) for count, values in costs.controller.items() if key in values]
        cells = [f'{_number(value)} at {count:,}' for count, value in sorted(found)]
        if len(found) > 1:
            (less, before), (more, after) = sorted(found)[-2:]
            power = np.log(after / before) / np.log(more / less)
            rows.append(_row(title, ', '.join(cells), f'{power:.2f}'))
    if not rows:
        return ''
    head = _row('of a campaign', 'at so many structures', 'power of the last two')
    return '\n'.join([head, _rule(3), *rows])


def describe_network(costs: Costs) -> str:
    """Return what the network takes of a processor."""
    if len(costs.network) < 2:
        return ''
    counts, times = zip(*((int(count), time) for count, time in costs.network.items()), strict=True)
    line = fit_line(counts, times)
    cells = ', '.join(f'{_number(time)} s for {count:,}' for count, time in zip(counts, times, strict=True))
    hours = line.each * MANY / 3600
    return f'One job of the network on one core: {cells}; {1e3 * line.each:.2f} ms each, {hours:.2f} h for {MANY:,}.'


def _sum_chains(run: Run) -> float:
    return sum(run.values[title] for title in OF_CHAINS)


def _add_lines(lines: Iterator[Line]) -> Line:
    """Return the sum of lines; the errors of parts of one campaign are taken to go together."""
    found = list(lines)
    parts = (sum(getattr(line, name) for line in found) for name in ('fixed', 'each', 'error', 'deviation'))
    return Line(*parts)


def _interval(value: float, error: float) -> str:
    return f'{_number(value - error)} to {_number(value + error)}' if np.isfinite(error) else 'not known'


def _number(value: float) -> str:
    """Return a number with three digits at least, and never as a power of ten."""
    if value == 0 or not np.isfinite(value):
        return f'{value:.0f}'
    digits = max(0, 2 - int(np.floor(np.log10(abs(value)))))
    return f'{value:,.{digits}f}'


def _row(*cells: str) -> str:
    return f'| {" | ".join(cells)} |'


def _rule(width: int) -> str:
    return '|---' * width + '|'


def main(arguments: Mapping[int, str] | Sequence[str]) -> None:
    """Print the tables of a file."""
    print(describe_costs(Costs.read(Path(arguments[1]))))


if __name__ == '__main__':
    main(sys.argv)
