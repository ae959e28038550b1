"""Pause a campaign and let it go on."""

from __future__ import annotations

from typing import Any

import click
from aiida import orm
from aiida.engine.processes.control import pause_processes, play_processes

from aiida_e3relax.campaign.group import CampaignGroup, load_campaign
from aiida_e3relax.campaign.submission.daemon import Daemon
from aiida_e3relax.campaign.submission.processes import read_processes
from aiida_e3relax.cli.campaign.errors import plain_errors, shell_quote

PATIENCE = 60.0  # s; the 5 s of AiiDA are too short for workers that are busy


def pause_campaign(name: str, running: bool) -> None:
    """Let nothing more of the campaign `name` be submitted, and pause its `running` processes too if so asked."""
    with plain_errors(name):
        group = load_campaign(name)
        group.is_paused = True
        if running and (nodes := _running_nodes(group, paused=False)):
            pause_processes(
                nodes, msg_text=f'Paused by `aiida-e3relax campaign pause {shell_quote(name)}`', timeout=PATIENCE
            )
    click.echo(f'Paused. Go on: aiida-e3relax campaign resume {shell_quote(name)}')


def resume_campaign(name: str) -> None:
    """Let the campaign `name` be submitted again, and its paused processes go on."""
    with plain_errors(name):
        group = load_campaign(name)
        group.is_paused = False
        if nodes := _running_nodes(group, paused=True):
            play_processes(nodes, timeout=PATIENCE)
    click.echo(f'No longer paused. Unless it runs already: aiida-e3relax campaign run {shell_quote(name)}')


def _running_nodes(group: CampaignGroup, paused: bool) -> list[Any]:
    """Return the nodes of the processes that have not ended and are paused or not.

    Raises ClickException when there are some and no daemon runs, which has to pass the request on.
    """
    running = read_processes(group.settings, group.settings_node).running
    nodes: list[Any] = [orm.load_node(process.pk) for process in running if process.is_paused == paused]
    if nodes and not Daemon().count_workers():
        raise click.ClickException(
            f'{len(nodes)} processes of the campaign could not be told, since no daemon runs: start one with '
            '`verdi daemon start`, then give this command again'
        )
    return nodes
