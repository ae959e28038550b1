"""The status of a campaign as a table on a terminal."""

from __future__ import annotations

import datetime
import shlex
from collections.abc import Iterable, Iterator, Sequence

from aiida.common.exceptions import NotExistent
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from aiida_e3relax.campaign.arms import find_base
from aiida_e3relax.campaign.group import CampaignGroup
from aiida_e3relax.campaign.rounds.history import History
from aiida_e3relax.campaign.settings import CampaignSettings
from aiida_e3relax.campaign.submission.processes import UNSUCCESSFUL, State
from aiida_e3relax.campaign.submission.status import FailedChains, Status, read_status
from aiida_e3relax.common.messages import count_of, name_some, printable, short
from aiida_e3relax.workflows.training.finetune import E3RelaxFinetuneWorkChain

SHOWN_LABELS = 4
REASON_WIDTH = 1000
"""Of a message, in a line of its own: it ends with the reason that a person looks for."""
TRAINING_FAILED = E3RelaxFinetuneWorkChain.exit_codes.ERROR_TRAINING_FAILED.status
"""The exit status of a round whose training failed."""
LIST_COUNTS = ('structures', 'finished', 'failed', 'running')
LIST_TITLES = ('name', 'created (UTC)', *LIST_COUNTS, 'remark')


def draw_status(status: Status, warning: str = '') -> RenderableType:
    """Return a table of counts by state, a line on what is left, and the failures by exit code."""
    table = Table(title=Text(f'Campaign {printable(status.name)}'), title_justify='left')
    table.add_column('')
    for state in State:
        table.add_column(state.value, justify='right')
    table.add_column('all', justify='right')
    for name, counts in (('batches', status.networks), ('structures', status.chains)):
        cells = [str(counts[state]) if counts[state] else '·' for state in State]
        table.add_row(name, *cells, str(sum(counts.values())))
    parts: list[RenderableType] = [table, Text(_format_rate(status))]
    if status.failures:
        parts.append(_draw_failures(status.failures))
        parts += [Text(line) for line in format_failures(status.failures)]
    parts += [Text(line, style='yellow') for line in format_notes(status)]
    if warning:
        parts.append(Text(warning, style='bold red'))
    return Group(*parts)


def draw_list(rows: Iterable[Sequence[str]]) -> Table:
    """Return a table of campaigns, with the cells of `format_group`."""
    table = Table(box=None, header_style='bold', padding=(0, 2, 0, 0), pad_edge=False)
    for title in LIST_TITLES:
        table.add_column(title, justify='right' if title in LIST_COUNTS else 'left', overflow='fold')
    for cells in rows:
        name, created, *others = cells
        table.add_row(*map(Text, (name, _format_moment(created), *others)))
    return table


def format_group(group: CampaignGroup) -> tuple[str, ...]:
    """Return the cells of a campaign in a list, under `LIST_TITLES`; of one that cannot be read with the reason."""
    try:
        return _format_campaign(read_status(group), group.settings)
    except (ValueError, NotExistent) as error:
        return printable(group.label), '', *[''] * len(LIST_COUNTS), printable(str(error))


def _format_campaign(status: Status, settings: CampaignSettings) -> tuple[str, ...]:
    failed = sum(status.chains[state] for state in UNSUCCESSFUL)
    counts = (sum(status.chains.values()), status.chains[State.FINISHED], failed, status.chains[State.RUNNING])
    notes = ['paused'] * status.is_paused + [f'{status.n_held} held back'] * bool(status.n_held)
    if status.waiting:
        notes.append(f'waiting for raw legs of {printable(status.waiting.base)}')
    elif settings.raw_legs_of:
        base = find_base(settings)
        notes.append(f'arm of {printable(base.label) if base else "a campaign that has been deleted"}')
    return printable(status.name), printable(settings.created), *map(str, counts), ', '.join(notes)


def _format_moment(created: str) -> str:
    """Return a moment to the minute, in UTC; nothing of a campaign that cannot be read."""
    if not created:
        return ''
    moment = datetime.datetime.fromisoformat(created).astimezone(datetime.UTC)
    return moment.strftime('%Y-%m-%d %H:%M')


def format_notes(status: Status) -> list[str]:
    """Return what a person should know of a campaign beside its counts, in lines."""
    name = shlex.quote(printable(status.name))
    lines = [
        f'{_structures_are(held.n_structures)} held back: the network failed for {held.label} as a whole '
        f'(<{held.pk}>): {short(held.reason, REASON_WIDTH)}'
        for held in status.held
    ]
    if lines:
        lines.append(
            'Correct what it says, then: '
            f'aiida-e3relax campaign run {name} --retry-failed; or relax them without the network: '
            f'aiida-e3relax campaign run {name} --raw-on-network-failure'
        )
    lines += [
        f'{count_of(len(jobs.pks), "job is", "jobs are")} paused: {short(jobs.reason, REASON_WIDTH)}; '
        f'why, and so what to mend: verdi process report {jobs.pks[0]}'
        for jobs in status.paused_jobs
    ]
    lines += _format_waiting(status)
    lines += _format_learning(status)
    if status.foreign:
        pks = ', '.join(map(str, status.foreign[:SHOWN_LABELS])) + ', ...' * (len(status.foreign) > SHOWN_LABELS)
        lines.append(
            f'{count_of(len(status.foreign), "process is", "processes are")} linked to the settings without the label '
            f'of a structure, and left alone: {pks}'
        )
    return lines


def _format_waiting(status: Status) -> Iterator[str]:
    """Yield what the chains of an arm wait for."""
    if status.waiting is None:
        return
    base = printable(status.waiting.base)
    run = f'aiida-e3relax campaign run {shlex.quote(base)}'
    if n_waiting := status.waiting.n_structures:
        yield f'{_structures_are(n_waiting)} waiting for raw legs of {base}, which come with: {run}'
    if n_held := status.waiting.n_held:
        yield (
            f'{_structures_are(n_held)} held back: their raw legs are held back or lost in {base}; see why: '
            f'aiida-e3relax campaign status {shlex.quote(base)}; and then: {run} --retry-failed'
        )


def _structures_are(count: int) -> str:
    return count_of(count, 'structure is', 'structures are')


def _format_learning(status: Status) -> Iterator[str]:
    """Yield how the model of a campaign learns: what the last round came to, and when the next one is due."""
    learning = status.learning
    if learning is None:
        return
    history, due = learning.history, learning.due
    if history.rounds:
        yield f'The model is generation {history.generation}; {format_rounds(history)[-1]}'
        if history.rounds[-1].process.exit_status == TRAINING_FAILED:
            learn = f'aiida-e3relax campaign learn {shlex.quote(printable(status.name))} training=FILE'
            yield f'How rounds train can be set anew, from the next one on (docs/learning.md): {learn}'
    if learning.holds:
        yield 'Chains wait for the round that is due or runs'
    for run in learning.not_predicted:
        reason = short(printable(run.exit_message or f'<{run.pk}> was {run.state}'), REASON_WIDTH)
        yield f'{run.label} failed as a whole, older predictions serve: {reason}'
    if learning.fault:
        yield f'No round could be made of what has finished: {short(printable(learning.fault), REASON_WIDTH)}'
    if due.lacks:
        yield f'A round of learning waits: it needs {due.lacks}'
    elif due.next_after is not None and not history.is_running:
        yield f'The next round of learning is due after {count_of(due.next_after, "finished relaxation")}'
    elif learning.has_missed:
        yield describe_missed(status.name)


def describe_missed(name: str) -> str:
    """Return that the model of a campaign has not learnt, since all began before a round was due, and what to do."""
    return (
        f'No round of learning was made in {printable(name)} before all structures had begun, and none comes by itself '
        f'now; make one: aiida-e3relax campaign learn {shlex.quote(printable(name))}'
    )


def format_rounds(history: History) -> list[str]:
    """Return what became of each round of learning, a line each."""
    lines, generation = [], 0
    for number, each in enumerate(history.rounds, 1):
        generation += each.model is not None
        told = each.state.value
        if each.model:
            told = f'better, and so generation {generation}'
        elif each.state is State.FINISHED:
            told = 'its model was not better beyond chance, and was not taken'
        elif each.process.exit_message:
            told = f'{told}: {short(printable(each.process.exit_message), REASON_WIDTH)}'
        lines.append(f'round {number}, <{each.process.pk}>, on {count_of(each.after, "relaxation")}: {told}')
    return lines


def _format_rate(status: Status) -> str:
    words = [f'at most {status.max_running} at a time']
    if status.chains_per_hour and status.time_left is not None:
        words.append(f'{status.chains_per_hour:.1f} an hour, about {_format_duration(status.time_left)} left')
    if status.n_retried:
        words.append(f'{status.n_retried} tried again')
    if status.is_paused:
        words.append('paused')
    return ' · '.join(words)


def _format_duration(time: datetime.timedelta) -> str:
    """Return a time in its two largest units."""
    minutes = round(time.total_seconds() / 60)
    if minutes < 1:
        return 'a minute'
    days, hours = minutes // 1440, minutes // 60 % 24
    if days:
        return f'{days} d {hours} h'
    return f'{hours} h {minutes % 60} min' if hours else f'{minutes} min'


def format_failures(failures: Iterable[FailedChains]) -> Iterator[str]:
    """Yield the whole message of each kind of failure, and what shows more of it."""
    for failure in failures:
        said = f' {short(failure.message, REASON_WIDTH)}' if failure.message else ''
        yield f'{failure.name}:{said} More: aiida-e3relax show {failure.pk}'


def _draw_failures(failures: list[FailedChains]) -> Table:
    table = Table('exit code', 'count', 'structures', box=box.SIMPLE_HEAD, title='Failures')
    table.title_justify = 'left'
    for failure in failures:
        labels = printable(name_some(failure.labels, SHOWN_LABELS))
        table.add_row(*map(Text, (failure.name, str(len(failure.labels)), labels)))
    return table
