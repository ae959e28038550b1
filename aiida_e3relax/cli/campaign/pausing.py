"""Pause a campaign and let it go on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
from aiida import orm
from aiida.engine.processes.control import pause_processes, play_processes

from aiida_e3relax.campaign.arms import find_arms
from aiida_e3relax.campaign.group import CampaignGroup, load_campaign
from aiida_e3relax.campaign.submission.daemon import Daemon
from aiida_e3relax.campaign.submission.processes import read_processes
from aiida_e3relax.cli.campaign.errors import plain_errors, shell_quote
from aiida_e3relax.common.messages import printable

PATIENCE = 60.0  # s; the 5 s of AiiDA are too short for workers that are busy


def pause_campaign(name: str, running: bool, this_arm: bool = False) -> None:
    """Let nothing more of the campaign `name` and its arms be submitted, and pause their `running` processes if asked.

    With `this_arm` the arms go on.
    """
    with plain_errors(name):
        groups = _set_paused(name, True, this_arm)
        if running and (nodes := _running_nodes(groups, paused=False)):
            pause_processes(
                nodes, msg_text=f'Paused by `aiida-e3relax campaign pause {shell_quote(name)}`', timeout=PATIENCE
            )
    click.echo(f'Paused{_name_arms(groups)}. Go on: aiida-e3relax campaign resume {shell_quote(name)}')


def resume_campaign(name: str, this_arm: bool = False) -> None:
    """Let the campaign `name` and its arms be submitted again, and their paused processes go on.

    With `this_arm` the arms stay as they are.
    """
    with plain_errors(name):
        groups = _set_paused(name, False, this_arm)
        if nodes := _running_nodes(groups, paused=True):
            play_processes(nodes, timeout=PATIENCE)
    click.echo(
        f'No longer paused{_name_arms(groups)}. Unless it runs already: aiida-e3relax campaign run {shell_quote(name)}'
    )


def _set_paused(name: str, value: bool, this_arm: bool) -> list[CampaignGroup]:
    """Pause a campaign and its arms, or undo that, and return them."""
    group = load_campaign(name)
    groups = [group, *([] if this_arm else find_arms(group))]
    for each in groups:
        each.is_paused = value
    return groups


def _name_arms(groups: Sequence[CampaignGroup]) -> str:
    return f', with {", ".join(printable(arm.label) for arm in groups[1:])}' if len(groups) > 1 else ''


def _running_nodes(groups: Sequence[CampaignGroup], paused: bool) -> list[Any]:
    """Return the nodes of the processes that have not ended and are paused or not.

    Raises ClickException when there are some and no daemon runs, which has to pass the request on.
    """
    running = [process for group in groups for process in read_processes(group.settings, group.settings_node).running]
    nodes: list[Any] = [orm.load_node(process.pk) for process in running if process.is_paused == paused]
    if nodes and not Daemon().count_workers():
        raise click.ClickException(
            f'{len(nodes)} processes of the campaign could not be told, since no daemon runs: start one with '
            '`verdi daemon start`, then give this command again'
        )
    return nodes
