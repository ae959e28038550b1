"""How far a campaign is, as a table on a terminal."""

from __future__ import annotations

import datetime

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from aiida_e3relax.campaign.processes import State
from aiida_e3relax.campaign.status import Failure, Status

SHOWN_LABELS = 4
MESSAGE_WIDTH = 100


def draw_status(status: Status, warning: str = '') -> RenderableType:
    """Return a table of counts by state, a line on what is left, and the failures by exit code."""
    table = Table(title=f'Campaign {status.name}', title_justify='left')
    table.add_column('')
    for state in State:
        table.add_column(state.value, justify='right')
    table.add_column('all', justify='right')
    for name, counts in (('batches', status.networks), ('structures', status.chains)):
        cells = [str(counts[state]) if counts[state] else '·' for state in State]
        table.add_row(name, *cells, str(sum(counts.values())))
    parts: list[RenderableType] = [table, Text(_tell_rate(status))]
    if status.failures:
        parts.append(_draw_failures(status.failures))
    if warning:
        parts.append(Text(warning, style='bold red'))
    return Group(*parts)


def _tell_rate(status: Status) -> str:
    words = [f'at most {status.max_running} at a time']
    if status.chains_per_hour and status.time_left is not None:
        words.append(f'{status.chains_per_hour:.1f} an hour, about {_tell_time(status.time_left)} left')
    if status.n_retried:
        words.append(f'{status.n_retried} tried again')
    if status.is_paused:
        words.append('paused')
    return ' · '.join(words)


def _tell_time(time: datetime.timedelta) -> str:
    """Return a time in its two largest units."""
    minutes = round(time.total_seconds() / 60)
    if minutes < 1:
        return 'a minute'
    days, hours = minutes // 1440, minutes // 60 % 24
    if days:
        return f'{days} d {hours} h'
    return f'{hours} h {minutes % 60} min' if hours else f'{minutes} min'


def _draw_failures(failures: list[Failure]) -> Table:
    table = Table('exit code', 'count', 'structures', 'message of the first', box=box.SIMPLE_HEAD, title='Failures')
    table.title_justify = 'left'
    for failure in failures:
        more = f' and {len(failure.labels) - SHOWN_LABELS} more' if len(failure.labels) > SHOWN_LABELS else ''
        message = failure.message if len(failure.message) <= MESSAGE_WIDTH else f'{failure.message[:MESSAGE_WIDTH]}...'
        table.add_row(failure.name, str(len(failure.labels)), ', '.join(failure.labels[:SHOWN_LABELS]) + more, message)
    return table
