"""Run a campaign with its arms: submit bit by bit, and show how far it is."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence

import click
from rich.console import Console, Group
from rich.live import Live

from aiida_e3relax.campaign.arms import count_relaxations, find_arms
from aiida_e3relax.campaign.group import load_campaign
from aiida_e3relax.campaign.submission.controller import (
    CampaignController,
    advance_together,
    has_ended,
    look_together,
)
from aiida_e3relax.campaign.submission.daemon import NO_DAEMON
from aiida_e3relax.campaign.submission.lock import CampaignLockedError, lock
from aiida_e3relax.campaign.submission.status import Status, make_status
from aiida_e3relax.cli.campaign.errors import plain_errors, shell_quote
from aiida_e3relax.cli.campaign.status_lines import StatusLines
from aiida_e3relax.cli.campaign.status_table import describe_missed, draw_status
from aiida_e3relax.common.messages import count_of, printable

SUBMITTED_BETWEEN_LOOKS = 5


def run_campaign(
    name: str,
    max_running: int | None,
    network_jobs: int | None,
    retry_failed: bool,
    raw_on_network_failure: bool | None,
    interval: float,
    this_arm: bool = False,
) -> None:
    """Submit the campaign `name` and its arms until all has ended, or until somebody stops or pauses it.

    Parameters
    ----------
    max_running, network_jobs, raw_on_network_failure
        As in `CampaignGroup`; None changes nothing. The cap of a campaign's chains holds for it and its arms together,
        that of its runs of the network for each of them.
    retry_failed
        Whether what ended without success is tried again.
    interval
        Seconds between looks.
    this_arm
        Whether the arms are left alone.

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
        controllers = [CampaignController(group)]
        if not controllers[0].daemon.count_workers():
            raise click.ClickException(NO_DAEMON)
        with contextlib.ExitStack() as stack:
            confirm_locks = [stack.enter_context(lock(group))]
            for arm in [] if this_arm else find_arms(group):
                try:
                    confirm_locks.append(stack.enter_context(lock(arm)))
                except CampaignLockedError as error:
                    click.echo(
                        f'Arm {printable(arm.label)}: left to the process that runs it ({printable(str(error))})'
                    )
                else:
                    controllers.append(CampaignController(arm))
            if max_running is not None:
                group.max_running = max_running
            for controller in controllers:
                if network_jobs is not None:
                    controller.group.network_jobs = network_jobs
                if raw_on_network_failure is not None:
                    controller.group.raw_on_network_failure = raw_on_network_failure
            if retry_failed:
                _retry_failed(controllers)
            _say_what_runs(controllers)
            _run_until(stop, controllers, confirm_locks, interval)
        _say_what_is_next(controllers)


def _retry_failed(controllers: Sequence[CampaignController]) -> None:
    tried = []
    for controller in controllers:
        of_arm = '' if controller is controllers[0] else f'{controller.group.label}: '
        tried += [f'{of_arm}{label}' for label in controller.retry_failed()]
    click.echo(f'Trying again: {", ".join(map(printable, tried)) or "nothing has failed"}')


def _say_what_runs(controllers: Sequence[CampaignController]) -> None:
    """Say how many relaxations by VASP the campaigns take in all."""
    counted = count_relaxations(controller.plan.settings for controller in controllers)
    n_arms = len(controllers) - 1
    arms = f' and {n_arms} arm{"s" * (n_arms > 1)} of it, which share its raw legs' if n_arms else ''
    click.echo(f'In all {counted} for {printable(controllers[0].group.label)}{arms}.')


def _run_until(
    stop: threading.Event,
    controllers: Sequence[CampaignController],
    confirm_locks: Sequence[Callable[[], None]],
    interval: float,
) -> None:
    """Submit and show until everything has ended, nothing more may be submitted, or someone asks to stop."""
    nodes = {controller.plan.node.uuid for controller in controllers}
    are_with_base = [controller.plan.settings.raw_legs_of in nodes for controller in controllers]
    with _show_status([controller.group.label for controller in controllers]) as show:
        while not stop.is_set():
            looks = look_together(controllers)
            workers = controllers[0].daemon.count_workers()
            warnings = [*_list_refusals(controllers), *[NO_DAEMON] * (not workers)]
            statuses = [make_status(look, with_base) for look, with_base in zip(looks, are_with_base, strict=True)]
            show(statuses, '; '.join(warnings))
            if has_ended(controllers, looks):
                return
            if not advance_together(controllers, looks, confirm_locks, SUBMITTED_BETWEEN_LOOKS, workers):
                stop.wait(interval)


@contextlib.contextmanager
def _show_status(names: Sequence[str]) -> Iterator[Callable[[Sequence[Status], str], None]]:
    """Give a function that shows statuses and a warning: in place on a terminal, elsewhere what has changed."""
    if sys.stdout.isatty():
        with Live(console=Console(), auto_refresh=False) as live:

            def draw(statuses: Sequence[Status], warning: str) -> None:
                last = len(statuses) - 1
                tables = (draw_status(status, warning * (n == last)) for n, status in enumerate(statuses))
                live.update(Group(*tables), refresh=True)

            yield draw
    else:
        lines = [StatusLines(f' {printable(name)}:' if len(names) > 1 else '') for name in names]

        def show(statuses: Sequence[Status], warning: str) -> None:
            for n, (status, of_campaign) in enumerate(zip(statuses, lines, strict=True)):
                for line in of_campaign.changes(status, warning if n == 0 else ''):
                    click.echo(line)  # flushes

        yield show


def _say_what_is_next(controllers: Sequence[CampaignController]) -> None:
    """Say what there is to do now, and exit with 1 where structures are held back."""
    name = shell_quote(controllers[0].group.label)
    if refusals := _list_refusals(controllers):
        raise click.ClickException('\n'.join(refusals))
    looks = look_together(controllers)
    n_held, is_done = sum(look.due.n_held for look in looks), all(look.is_done for look in looks)
    if sys.stdout.isatty():
        click.echo()
    for look in looks:
        if look.history.tuned:
            model = look.history.tuned[-1].model
            click.echo(
                f'The model of {printable(look.extras.label)} is generation {look.history.generation} now; pass it on: '
                f'aiida-e3relax model export {model} FOLDER'
            )
        elif look.has_missed_rounds:
            click.echo(describe_missed(look.extras.label))
    found = f'aiida-e3relax campaign report {name}'
    if len(controllers) > 1:
        found += f'; the arms side by side: aiida-e3relax campaign compare {name}'
    if is_done and n_held:
        raise click.ClickException(
            f'{count_of(n_held, "structure is", "structures are")} held back, as said above; '
            f'all others have ended. What was found so far: {found}'
        )
    if is_done:
        click.echo(f'All has ended. See what it found: {found}')
    elif paused := [look.extras.label for look in looks if look.extras.is_paused]:
        click.echo(f'Paused. Go on: aiida-e3relax campaign resume {shell_quote(paused[0])}')
    else:
        click.echo(f'What is submitted goes on in the daemon. Go on submitting: aiida-e3relax campaign run {name}')


def _list_refusals(controllers: Sequence[CampaignController]) -> list[str]:
    """Return why campaigns could not be submitted to the end."""
    return [printable(str(controller.refusal)) for controller in controllers if controller.refusal]
