"""Run a campaign: submit bit by bit, and show how far it is."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator

import click
from rich.console import Console
from rich.live import Live

from aiida_e3relax.campaign.group import CampaignGroup, load_campaign
from aiida_e3relax.campaign.submission.controller import CampaignController
from aiida_e3relax.campaign.submission.lock import lock
from aiida_e3relax.campaign.submission.status import Status, make_status
from aiida_e3relax.cli.campaign.errors import plain_errors, shell_quote
from aiida_e3relax.cli.campaign.status_lines import StatusLines
from aiida_e3relax.cli.campaign.status_table import draw_status
from aiida_e3relax.common.messages import printable

SUBMITTED_BETWEEN_LOOKS = 5
NO_DAEMON = 'no daemon runs, so nothing can: start one with `verdi daemon start`'


def run_campaign(
    name: str, max_running: int | None, retry_failed: bool, raw_on_network_failure: bool | None, interval: float
) -> None:
    """Submit the campaign `name` until all has ended, or until somebody stops or pauses it.

    Parameters
    ----------
    max_running, raw_on_network_failure
        As in `CampaignGroup`; None changes nothing.
    retry_failed
        Whether what ended without success is tried again.
    interval
        Seconds between looks.

    Raises
    ------
    ClickException
        When there is no such campaign, no daemon, or another process that runs it, and when structures are held back
        at the end.
    """
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
        _say_what_is_next(group, controller)


def _run_until(
    stop: threading.Event, controller: CampaignController, confirm_lock: Callable[[], None], interval: float
) -> None:
    """Submit and show until everything has ended, nothing more may be submitted, or someone asks to stop."""
    with _show_status() as show:
        while not stop.is_set():
            n_submitted = controller.advance(SUBMITTED_BETWEEN_LOOKS, confirm_lock)
            processes = controller.read()
            has_daemon = bool(controller.daemon.count_workers())
            status = make_status(controller.group, processes, controller.find_due(processes))
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
            for line in lines.changes(status, warning):
                click.echo(line)  # flushes

        yield show


def _say_what_is_next(group: CampaignGroup, controller: CampaignController) -> None:
    """Say what there is to do now, and exit with 1 where structures are held back."""
    name = shell_quote(group.label)
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
