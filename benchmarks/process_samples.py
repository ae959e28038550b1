"""Memory and CPU time of the processes that serve a campaign: the daemon's, the controller, and PostgreSQL's."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
from aiida.engine.daemon.client import get_daemon_client
from aiida.manage import get_manager
from matplotlib.figure import Figure
from sqlalchemy import text

from aiida_e3relax.campaign.group import load_campaign
from aiida_e3relax.campaign.submission.status import read_status

MIB = 2**20
CONNECTIONS = 'select count(*) from pg_stat_activity where datname = current_database()'


class Samples:
    """What these processes hold and have used, seen time and again.

    Parameters
    ----------
    campaign
        The name of the campaign whose chains are counted.
    path
        The CSV file for what has been seen so far.
    """

    def __init__(self, campaign: str, path: Path):
        self._group = load_campaign(campaign)
        self._path = path
        self._rows: list[dict[str, float]] = []
        self._began = time.monotonic()

    @property
    def table(self) -> pd.DataFrame:
        """All samples, with the time since the first in `s`, and of each process MiB and CPU seconds."""
        return pd.DataFrame(self._rows)

    def look(self, controller: psutil.Process) -> None:
        """Add a sample, and write all of them."""
        with contextlib.suppress(psutil.NoSuchProcess):  # connections to the database come and go
            self._rows.append(self._sample(controller))
        self.table.to_csv(self._path, index=False)

    def _sample(self, controller: psutil.Process) -> dict[str, float]:
        states = read_status(self._group)
        row = {'s': time.monotonic() - self._began, 'ended': sum(states.chains.values()) - states.n_left}
        row |= {'load': os.getloadavg()[0], 'connections': ask_database(CONNECTIONS)}
        for name, group in {**find_servers(), '`run`': [controller]}.items():
            row[f'{name} MiB'] = sum(_memory(process) for process in group)
            row[f'{name} CPU s'], row[f'{name} children CPU s'] = sum_cpu_times(group)
        return row


def sum_cpu_times(processes: Iterable[psutil.Process]) -> tuple[float, float]:
    """Return the CPU time of processes in s, and that of their children that have ended.

    These are the shells of workers, and the connections of the database's server.
    """
    times = [process.cpu_times() for process in processes]
    return sum(sum(time[:2]) for time in times), sum(sum(time[2:4]) for time in times)


def ask_database(query: str) -> Any:
    """Return the first value that a query in SQL gives."""
    storage: Any = get_manager().get_profile_storage()
    with storage.get_session().get_bind().connect() as connection:
        return connection.execute(text(query)).scalar()


def summarise_samples(samples: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Return, by process, MiB of memory, its growth in MiB per 100 chains, and CPU seconds a chain.

    Growth is the slope of a line through the samples of the second half of the chains.
    """
    ended = samples['ended']
    late = samples[ended >= ended.max() / 2]
    summary = {}
    for name in _names(samples):
        memory = samples[f'{name} MiB']
        summary[name] = {
            'start': float(memory.iloc[0]),
            'median': float(memory.median()),
            'end': float(memory.iloc[-1]),
            'most': float(memory.max()),
            'growth': 100 * float(np.polyfit(late['ended'], late[f'{name} MiB'], 1)[0]),
            'cpu': float(np.ptp(samples[f'{name} CPU s'])) / ended.max(),
            'cpu_of_children': float(np.ptp(samples[f'{name} children CPU s'])) / ended.max(),
        }
    return summary


def tell_samples(summary: Mapping[str, Mapping[str, float]]) -> str:
    """Return what `summarise_samples` does as a table."""
    lines = [
        '| | MiB at the start | median | at the end | most | growth per 100 chains | CPU s a chain | ended children |',
        '|---' * 8 + '|',
    ]
    for name, told in summary.items():
        memory = ' | '.join(f'{told[key]:.0f}' for key in ('start', 'median', 'end', 'most'))
        lines.append(
            f'| {name} | {memory} | {told["growth"]:+.1f} | {told["cpu"]:.2f} | {told["cpu_of_children"]:.2f} |'
        )
    return '\n'.join(lines)


def draw_samples(samples: pd.DataFrame) -> Figure:
    """Return the memory of each process against the chains that have ended."""
    figure = Figure(figsize=(7, 4), layout='constrained')
    axes = figure.subplots()
    for name in _names(samples):
        axes.plot(samples['ended'], samples[f'{name} MiB'], label=name.strip('`'))
    axes.set(xlabel='chains that have ended', ylabel='memory of its own (MiB)', ylim=(0, None))
    axes.legend(loc='center left', bbox_to_anchor=(1, 0.5), frameon=False)
    return figure


def _names(samples: pd.DataFrame) -> list[str]:
    return [column.removesuffix(' MiB') for column in samples if column.endswith(' MiB')]


def find_servers() -> dict[str, list[psutil.Process]]:
    """Return the processes of the daemon, with its broker where it has one, and of the database's server, by name."""
    daemon = psutil.Process(get_daemon_client().get_daemon_pid())
    children = {child: child.cmdline() for child in daemon.children()}
    workers = [child for child, words in children.items() if 'worker' in words]
    brokers = [child for child, words in children.items() if 'broker' in words]
    others = [child for child in children if child not in workers + brokers]
    server: Any = psutil.Process(ask_database('select pg_backend_pid()')).parent()
    return {
        **{f'worker {number}': [worker] for number, worker in enumerate(workers, 1)},
        'broker': brokers,
        'circus': [daemon, *others],
        'PostgreSQL': [server, *server.children()],
    }


def _memory(process: psutil.Process) -> float:
    """Return what a process holds for itself in MiB: without libraries and without the buffers of the server."""
    memory = process.memory_info()
    return (memory.rss - memory.shared) / MIB
