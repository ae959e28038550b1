"""`aiida-e3relax campaign`: many structures through the chain."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import click
from aiida import orm
from aiida.common.exceptions import NotExistent
from aiida.engine.processes.control import pause_processes, play_processes
from rich.console import Console
from rich.live import Live

from aiida_e3relax.campaign.controller import CampaignController, lock
from aiida_e3relax.campaign.daemon import Daemon
from aiida_e3relax.campaign.group import CampaignGroup, load_campaign
from aiida_e3relax.campaign.processes import read_processes
from aiida_e3relax.campaign.status import read_status, tell_status
from aiida_e3relax.cli.campaign_create import create
from aiida_e3relax.cli.campaign_table import draw_status
from aiida_e3relax.cli.extras import require_report
from aiida_e3relax.cli.profile import profile_option, use_profile

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


@campaign.command()
@click.argument('name')
@click.option('--max-running', type=click.IntRange(min=1), help='Change how many chains run at the same time.')
@click.option('--retry-failed', is_flag=True, help='Submit another chain for each structure whose last one failed.')
@click.option(
    '--interval', type=click.FloatRange(min=0.1), default=5.0, show_default=True, help='Seconds between looks.'
)
@profile_option
def run(name: str, max_running: int | None, retry_failed: bool, interval: float, profile: str | None) -> None:
    """Submit the campaign NAME to the daemon, bit by bit, and show how far it is.

    Stop it with Ctrl-C, or however: what is submitted goes on in the daemon, and the same command goes on submitting.
    """
    use_profile(profile)
    console = Console()
    group = _load(name)
    controller = CampaignController(group)
    if not controller.daemon.count_workers():
        raise click.ClickException(NO_DAEMON)
    stop = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        with lock(group):
            if max_running is not None:
                group.max_running = max_running
            if retry_failed:
                console.print(f'Trying again: {", ".join(controller.retry_failed()) or "nothing has failed"}')
            _run_until(stop, controller, console, interval)
    except BlockingIOError as error:
        raise click.ClickException(
            f'campaign `{name}` is being run by another process; see how far: `aiida-e3relax campaign status {name}`'
        ) from error
    except (ValueError, NotExistent) as error:
        raise click.ClickException(str(error)) from error
    _tell_next(group, controller, console)


def _run_until(stop: threading.Event, controller: CampaignController, console: Console, interval: float) -> None:
    """Submit and show until everything has ended, nothing more may be submitted, or someone asks to stop."""
    with Live(console=console, auto_refresh=False) as live:
        while not stop.is_set():
            n_submitted = controller.advance(SUBMITTED_BETWEEN_LOOKS)
            processes = controller.read()
            has_daemon = bool(controller.daemon.count_workers())
            live.update(
                draw_status(tell_status(controller.group, processes), '' if has_daemon else NO_DAEMON), refresh=True
            )
            if controller.is_done(processes) or (controller.group.is_paused and not processes.running):
                return
            if not n_submitted:
                stop.wait(interval)


def _tell_next(group: CampaignGroup, controller: CampaignController, console: Console) -> None:
    """Say what there is to do now."""
    name = group.label
    console.print()
    if controller.is_done(controller.read()):
        console.print(f'All has ended. See what it found: aiida-e3relax campaign report {name}', highlight=False)
    elif group.is_paused:
        console.print(f'Paused. Go on: aiida-e3relax campaign resume {name}', highlight=False)
    else:
        console.print(
            f'What is submitted goes on in the daemon. Go on submitting: aiida-e3relax campaign run {name}',
            highlight=False,
        )


@campaign.command()
@click.argument('name')
@profile_option
def status(name: str, profile: str | None) -> None:
    """Show once how far the campaign NAME is."""
    use_profile(profile)
    Console().print(draw_status(read_status(_load(name))))


@campaign.command()
@click.argument('name')
@click.option('--running', is_flag=True, help='Pause the chains that run, too; their VASP jobs go on.')
@profile_option
def pause(name: str, running: bool, profile: str | None) -> None:
    """Submit no more of the campaign NAME until `resume`."""
    use_profile(profile)
    group = _load(name)
    group.is_paused = True
    if running and (nodes := _running_nodes(group, paused=False)):
        pause_processes(nodes, msg_text=f'Paused by `aiida-e3relax campaign pause {name}`', timeout=PATIENCE)
    click.echo(f'Paused. Go on: aiida-e3relax campaign resume {name}')


@campaign.command()
@click.argument('name')
@profile_option
def resume(name: str, profile: str | None) -> None:
    """Undo `pause`: chains that it paused go on, and `run` submits again."""
    use_profile(profile)
    group = _load(name)
    group.is_paused = False
    if nodes := _running_nodes(group, paused=True):
        play_processes(nodes, timeout=PATIENCE)
    click.echo(f'No longer paused. Unless it runs already: aiida-e3relax campaign run {name}')


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
    try:
        page = write_report(name, folder or Path(name))
    except ValueError as error:
        raise click.ClickException(str(error)) from error
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
    try:
        files = export_campaign(name, folder or Path(f'{name}-export'))
    except ValueError as error:
        raise click.ClickException(str(error)) from error
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


def _load(name: str) -> CampaignGroup:
    try:
        return load_campaign(name)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
