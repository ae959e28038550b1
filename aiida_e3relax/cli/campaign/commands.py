"""`aiida-e3relax campaign`: many structures through the chain."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from aiida import orm
from aiida.common.exceptions import NotExistent
from aiida.engine.processes.control import pause_processes, play_processes
from rich.console import Console
from rich.live import Live
from sqlalchemy.exc import SQLAlchemyError

from aiida_e3relax.campaign.group import CampaignGroup, find_campaigns, load_campaign
from aiida_e3relax.campaign.output import default_folder
from aiida_e3relax.campaign.submission.controller import CampaignController
from aiida_e3relax.campaign.submission.daemon import Daemon
from aiida_e3relax.campaign.submission.lock import CampaignLockedError, LockLostError, lock
from aiida_e3relax.campaign.submission.processes import read_processes
from aiida_e3relax.campaign.submission.status import Status, read_status, tell_status
from aiida_e3relax.cli.campaign.create import create
from aiida_e3relax.cli.campaign.status_lines import StatusLines
from aiida_e3relax.cli.campaign.status_table import draw_list, draw_status, tell_campaign, tell_unreadable
from aiida_e3relax.cli.extras import require_report
from aiida_e3relax.cli.profile import profile_option, use_profile
from aiida_e3relax.common.messages import printable

SUBMITTED_BETWEEN_LOOKS = 5
OUTPUT_FOLDER = click.Path(file_okay=False, path_type=Path)
PATIENCE = 60.0  # s; the 5 s of AiiDA are too short for workers that are busy
NO_DAEMON = 'no daemon runs, so nothing can: start one with `verdi daemon start`'


@click.group()
def campaign() -> None:
    """Relax many structures, with and without the network, and measure what it saves.

    A campaign lives in the AiiDA profile and nowhere else. Whatever is stopped or killed, `run` goes on where it was,
    and nothing is done twice.
    """


campaign.add_command(create)


@campaign.command('list')
@click.option('--raw', is_flag=True, help='Print lines with tabs between the cells and no headings.')
@profile_option
def list_campaigns(raw: bool, profile: str | None) -> None:
    """List the campaigns of the profile, the newest last."""
    use_profile(profile)
    rows = [_tell_group(group) for group in find_campaigns()]
    if raw:
        for cells in rows:
            click.echo('\t'.join(cells))
    elif rows:
        Console().print(draw_list(rows))
        click.echo('More on one: aiida-e3relax campaign status NAME; what it found: aiida-e3relax campaign report NAME')
    else:
        click.echo('There are none in this profile. Make one: aiida-e3relax campaign create')


def _tell_group(group: CampaignGroup) -> tuple[str, ...]:
    try:
        return tell_campaign(read_status(group), group.settings.created)
    except (ValueError, NotExistent) as error:
        return tell_unreadable(group.label, str(error))


@campaign.command()
@click.argument('name')
@click.option('--max-running', type=click.IntRange(min=1), help='Change how many chains run at the same time.')
@click.option(
    '--retry-failed',
    is_flag=True,
    help='Submit another chain for each structure whose last one failed, and run the network again for each batch that '
    'is held back because it failed as a whole.',
)
@click.option(
    '--raw-on-network-failure/--hold-on-network-failure',
    'raw_on_network_failure',
    default=None,
    help='Whether VASP relaxes the raw structures of a batch for which the network failed as a whole, for good; by '
    'default they are held back, since a mistake in its code would cost all that the network is to save.',
)
@click.option(
    '--interval', type=click.FloatRange(min=0.1), default=5.0, show_default=True, help='Seconds between looks.'
)
@profile_option
def run(
    name: str,
    max_running: int | None,
    retry_failed: bool,
    raw_on_network_failure: bool | None,
    interval: float,
    profile: str | None,
) -> None:
    """Submit the campaign NAME to the daemon, bit by bit, and show how far it is.

    Stop it with Ctrl-C, or however: what is submitted goes on in the daemon, and the same command goes on submitting.
    The exit code is 1 where structures are held back at the end. In a file or a pipe a line is written for each change.
    """
    use_profile(profile)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with plain_errors(name):
        group = load_campaign(name)
        controller = CampaignController(group)
        if not controller.daemon.count_workers():
            raise click.ClickException(NO_DAEMON)
        with lock(group) as confirm_lock:
            if max_running is not None:
                group.max_running = max_running
            if raw_on_network_failure is not None:
                group.raw_on_network_failure = raw_on_network_failure
            if retry_failed:
                tried = ', '.join(map(printable, controller.retry_failed()))
                click.echo(f'Trying again: {tried or "nothing has failed"}')
            _run_until(stop, controller, confirm_lock, interval)
        _tell_next(group, controller)


def _run_until(
    stop: threading.Event, controller: CampaignController, confirm_lock: Callable[[], None], interval: float
) -> None:
    """Submit and show until everything has ended, nothing more may be submitted, or someone asks to stop."""
    with _show_status() as show:
        while not stop.is_set():
            n_submitted = controller.advance(SUBMITTED_BETWEEN_LOOKS, confirm_lock)
            processes = controller.read()
            has_daemon = bool(controller.daemon.count_workers())
            status = tell_status(controller.group, processes, controller.find_due(processes))
            show(status, '' if has_daemon else NO_DAEMON)
            if controller.is_done(processes) or (controller.group.is_paused and not processes.running):
                return
            if not n_submitted:
                stop.wait(interval)


@contextlib.contextmanager
def _show_status() -> Iterator[Callable[[Status, str], None]]:
    """Give a function that shows a status and a warning: in place on a terminal, elsewhere what has changed."""
    if sys.stdout.isatty():
        with Live(console=Console(), auto_refresh=False) as live:
            yield lambda status, warning: live.update(draw_status(status, warning), refresh=True)
    else:
        lines = StatusLines()

        def show(status: Status, warning: str) -> None:
            for line in lines.tell(status, warning):
                click.echo(line)  # flushes

        yield show


def _tell_next(group: CampaignGroup, controller: CampaignController) -> None:
    """Say what there is to do now, and exit with 1 where structures are held back."""
    name = _quote(group.label)
    processes = controller.read()
    held = controller.find_due(processes).held
    if sys.stdout.isatty():
        click.echo()
    if controller.is_done(processes) and held:
        raise click.ClickException(
            f'{sum(map(len, held.values()))} structures are held back, as said above; all others have ended. What was '
            f'found so far: aiida-e3relax campaign report {name}'
        )
    if controller.is_done(processes):
        click.echo(f'All has ended. See what it found: aiida-e3relax campaign report {name}')
    elif group.is_paused:
        click.echo(f'Paused. Go on: aiida-e3relax campaign resume {name}')
    else:
        click.echo(f'What is submitted goes on in the daemon. Go on submitting: aiida-e3relax campaign run {name}')


@campaign.command()
@click.argument('name')
@profile_option
def status(name: str, profile: str | None) -> None:
    """Show once how far the campaign NAME is."""
    use_profile(profile)
    with plain_errors(name):
        Console().print(draw_status(read_status(load_campaign(name))))


@campaign.command()
@click.argument('name')
@click.option('--running', is_flag=True, help='Pause the chains that run, too; their VASP jobs go on.')
@profile_option
def pause(name: str, running: bool, profile: str | None) -> None:
    """Submit no more of the campaign NAME until `resume`."""
    use_profile(profile)
    with plain_errors(name):
        group = load_campaign(name)
        group.is_paused = True
        if running and (nodes := _running_nodes(group, paused=False)):
            pause_processes(
                nodes, msg_text=f'Paused by `aiida-e3relax campaign pause {_quote(name)}`', timeout=PATIENCE
            )
    click.echo(f'Paused. Go on: aiida-e3relax campaign resume {_quote(name)}')


@campaign.command()
@click.argument('name')
@profile_option
def resume(name: str, profile: str | None) -> None:
    """Undo `pause`: chains that it paused go on, and `run` submits again."""
    use_profile(profile)
    with plain_errors(name):
        group = load_campaign(name)
        group.is_paused = False
        if nodes := _running_nodes(group, paused=True):
            play_processes(nodes, timeout=PATIENCE)
    click.echo(f'No longer paused. Unless it runs already: aiida-e3relax campaign run {_quote(name)}')


@campaign.command()
@click.argument('name')
@click.option('--folder', type=OUTPUT_FOLDER, help='Where to.  [default: a folder called NAME]')
@profile_option
def report(name: str, folder: Path | None, profile: str | None) -> None:
    """Write what the campaign NAME found: a page for a browser, tables and figures.

    It tells of what has ended so far, and can be written again at any time.
    """
    require_report()
    from aiida_e3relax.campaign.report.files import write_report

    use_profile(profile)
    with plain_errors(name):
        page = write_report(name, folder or default_folder(name))
    click.echo(f'Report: {page.resolve()}')


@campaign.command()
@click.argument('name')
@click.option('--folder', type=OUTPUT_FOLDER, help='Where to.  [default: a folder called NAME-export]')
@profile_option
def export(name: str, folder: Path | None, profile: str | None) -> None:
    """Write the campaign NAME as files to publish: AiiDA archive, table, and what to cite.

    No content of a POTCAR is in them. All processes must have ended.
    """
    require_report()
    from aiida_e3relax.campaign.archive import export_campaign

    use_profile(profile)
    with plain_errors(name):
        files = export_campaign(name, folder or default_folder(name, '-export'))
    for file in files:
        click.echo(file.resolve())


def _running_nodes(group: CampaignGroup, paused: bool) -> list[Any]:
    """Return the nodes of the processes that have not ended and are paused or not.

    Raises ClickException when there are some and no daemon runs that they could be told through.
    """
    running = read_processes(group.settings, group.settings_node).running
    nodes: list[Any] = [orm.load_node(process.pk) for process in running if process.is_paused == paused]
    if nodes and not Daemon().count_workers():
        raise click.ClickException(
            f'{len(nodes)} processes of the campaign could not be told, since no daemon runs: start one with '
            '`verdi daemon start`, then give this command again'
        )
    return nodes


@contextlib.contextmanager
def plain_errors(name: str) -> Iterator[None]:
    """Turn what can go wrong with the campaign `name` into a line; raises ClickException."""
    try:
        yield
    except CampaignLockedError as error:
        raise click.ClickException(
            f'campaign `{printable(name)}` is being run by another process ({printable(str(error))}); see how far: '
            f'`aiida-e3relax campaign status {_quote(name)}`'
        ) from error
    except (LockLostError, SQLAlchemyError) as error:
        reason = str(error.__cause__ or error).partition('\n')[0]
        raise click.ClickException(
            f'the database does not answer any more ({printable(reason)}). What is submitted goes on; once the '
            'database is there, give this command again'
        ) from error
    except (ValueError, NotExistent) as error:
        raise click.ClickException(printable(str(error))) from error
    except OSError as error:
        where = f'{printable(error.filename)}: ' if error.filename else ''
        raise click.ClickException(f'{where}cannot be written: {printable(error.strerror or str(error))}') from error


def _quote(name: str) -> str:
    """Return a name as it stands in a command."""
    return shlex.quote(printable(name))
