"""Take hundreds of alloys through a campaign, and measure what that asks of the daemon, the broker and PostgreSQL.

    aiida-e3relax setup --profile PROFILE; verdi -p PROFILE daemon start 2
    verdi -p PROFILE run benchmarks/load_campaign.py FOLDER [STRUCTURES]

It prints tables in Markdown. Into FOLDER go the crystals, `samples.csv` with what was seen every 10 s, a figure of the
memory, the report and the export. Take a profile made for it, with its database on this machine, since all that happens
in the profile is counted. EMT stands in for VASP. To end it early, give `aiida-e3relax campaign pause load`.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from aiida import orm
from aiida.manage import get_manager

from aiida_e3relax.campaign.results.headline import format_headline
from aiida_e3relax.campaign.results.statistics import summarise
from aiida_e3relax.campaign.results.table import campaign_frame
from benchmarks.alloys import draw_alloys
from benchmarks.process_samples import MIB, Samples, ask_database, draw_samples, summarise_samples, tell_samples

NAME = 'load'
STRUCTURES = 500
OPTIONS = [
    '--vasp-code',
    'vasp-standin-emt@localhost',
    '--protocol',
    'fast',
    '--reference',
    '0.1',
    '--max-running',
    '20',
]
TITLES = ('nodes', 'links', 'database (MiB)', 'files (MiB)')
INTERVAL = 10.0  # s
CPU_TIME = re.compile(r'Total CPU time used \(sec\): *([\d.]+)')


@dataclasses.dataclass(frozen=True)
class Spent:
    """Of a command: wall time and CPU time in s, and its largest resident memory in MiB."""

    wall: float
    cpu: float
    peak: float


def spend(folder: Path, *arguments: str, watch: Callable[[psutil.Process], None] | None = None) -> Spent:
    """Return what a command of `aiida-e3relax campaign` took; `watch` is called time and again while it runs.

    Raises RuntimeError when it fails.
    """
    profile: Any = get_manager().get_profile()
    command = ['aiida-e3relax', 'campaign', *arguments, '--profile', profile.name]
    log = folder / f'{arguments[0]}.log'
    began = time.monotonic()
    with log.open('w', encoding='utf-8') as output:
        process = psutil.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    peak = 0
    while process.status() != psutil.STATUS_ZOMBIE:
        peak = max(peak, process.memory_info().rss)
        if watch:
            watch(process)
        time.sleep(INTERVAL if watch else 0.1)
    _, code, used = os.wait4(process.pid, 0)
    if code:
        raise RuntimeError(f'{" ".join(command)} failed; what it printed is in {log}')
    return Spent(time.monotonic() - began, used.ru_utime + used.ru_stime, peak / MIB)


@dataclasses.dataclass(frozen=True)
class Stored:
    """What the profile holds: numbers of nodes and links, database and files in MiB."""

    nodes: int
    links: int
    database: float
    files: float

    @classmethod
    def now(cls) -> Stored:
        """Return what is there now."""
        storage: Any = get_manager().get_profile_storage()
        told = storage.get_info(detailed=True)
        sizes = told['repository']['Size (MB)']
        return cls(
            nodes=told['entities']['Nodes']['count'],
            links=told['entities']['Links']['count'],
            database=ask_database('select pg_database_size(current_database())') / MIB,
            files=sizes['total_size_loose'] + sizes['total_size_packed_on_disk'],
        )


def sum_job_time(began: datetime.datetime) -> float:
    """Return the CPU time of the VASP jobs since then in s, as the stand-in tells it."""
    query = orm.QueryBuilder().append(orm.CalcJobNode, filters={'ctime': {'>': began}}, tag='job')
    query.append(orm.FolderData, with_incoming='job', edge_filters={'label': 'retrieved'})
    outputs = (
        node.base.repository for (node,) in query.iterall() if 'OUTCAR' in node.base.repository.list_object_names()
    )
    return sum(float(time) for files in outputs for time in CPU_TIME.findall(files.get_object_content('OUTCAR')))


def main(folder: Path, count: int) -> None:
    """Run the campaign and print what it took."""
    crystals = folder / 'crystals'
    crystals.mkdir(parents=True, exist_ok=True)
    for name, atoms in draw_alloys(count):
        atoms.write(crystals / f'{name}.vasp')
    began, before = datetime.datetime.now(datetime.UTC), Stored.now()
    spent = {'create': spend(folder, 'create', NAME, '--from', str(crystals), *OPTIONS)}
    samples = Samples(NAME, folder / 'samples.csv')
    spent['run'] = spend(folder, 'run', NAME, watch=samples.look)
    after = Stored.now()
    spent['status'] = spend(folder, 'status', NAME)
    for command in ('report', 'export'):
        spent[command] = spend(folder, command, NAME, '--folder', str(folder / command))
    asked = time.monotonic()
    frame = campaign_frame(NAME)
    asked = time.monotonic() - asked
    draw_samples(samples.table).savefig(folder / 'memory.png', dpi=150)

    states = frame.value_counts(['state', 'exit_status'], dropna=False)
    ended = count - int((frame['state'] == 'waiting').sum())
    minutes, load = spent['run'].wall / 60, samples.table['load'].median()
    print(f'{began.date()}, {platform.machine()}, {psutil.cpu_count()} cores under a load of {load:.1f} in the median.')
    print(f'{ended} of {count} chains ended in {minutes:.0f} minutes. States and exit codes: {states.to_dict()}.')
    print(f'At most {samples.table["connections"].max()} connections to the database.')
    print(f'The VASP jobs took {sum_job_time(began) / ended:.2f} s of the processor a chain.')
    print(f'{format_headline(summarise(frame))}\n\n{tell_samples(summarise_samples(samples.table))}')
    print('\n| the profile holds | before | after | for each chain |\n|---|---|---|---|')
    for name, first, last in zip(TITLES, dataclasses.astuple(before), dataclasses.astuple(after), strict=True):
        print(f'| {name} | {first:,.0f} | {last:,.0f} | {(last - first) / ended:,.2f} |')
    print('\n| command | wall time (s) | CPU time (s) | memory at most (MiB) |\n|---|---|---|---|')
    for name, cost in spent.items():
        print(f'| {name} | {cost.wall:.1f} | {cost.cpu:.1f} | {cost.peak:.0f} |')
    print(f'| `campaign_frame`, in Python | {asked:.2f} | | |')


if __name__ == '__main__':
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else STRUCTURES)
