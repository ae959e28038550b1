"""`aiida-e3relax show`: what a chain found, and how it got there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from aiida_e3relax.cli.profile import profile_option, use_profile

if TYPE_CHECKING:
    from aiida import orm


@click.command()
@click.argument('chain', metavar='PK')
@click.option(
    '--plot',
    type=click.Path(dir_okay=False, path_type=Path),
    help='Draw energy and largest force against the ionic step into this file (.png, .pdf or .svg).',
)
@profile_option
def show(chain: str, plot: Path | None, profile: str | None) -> None:
    """Print the comparison of the chain PK (or UUID), and how each of its relaxations went."""
    use_profile(profile)

    from rich.console import Console

    from aiida_e3relax.campaign.results.trajectories import read_trajectories
    from aiida_e3relax.cli.trajectory import draw_trajectories, format_trajectories
    from aiida_e3relax.workflows.comparison.reference import CHAIN
    from aiida_e3relax.workflows.comparison.text import format_chain

    node = _load_chain(chain)
    console = Console()
    trajectories = read_trajectories(node)
    if node.is_terminated:
        console.print(format_chain(node))
    else:
        console.print(f'{CHAIN}<{node.pk}> is not done yet; follow it with `verdi process status {node.pk}`')
    console.print(format_trajectories(trajectories))
    if plot:
        _check_plot(plot, is_empty=not trajectories)
        draw_trajectories(trajectories, node.inputs.structure.get_formula(), plot)
        console.print(f'Energy and force against the ionic step: {plot}', soft_wrap=True)


def _load_chain(text: str) -> orm.WorkChainNode:
    """Return the chain of that PK or UUID; raises ClickException when it is something else."""
    from aiida import orm

    from aiida_e3relax.cli.nodes import describe_node, find_node
    from aiida_e3relax.workflows.comparison.reference import CHAIN

    node = find_node(text, 'no node has this PK or UUID; see `verdi process list -a`')
    if not isinstance(node, orm.WorkChainNode) or node.process_label != CHAIN:
        found = describe_node(node)
        raise click.ClickException(
            f'{text}: expected an {CHAIN}, found {found}; see `verdi process list -a -L {CHAIN}`'
        )
    return node


def _check_plot(path: Path, is_empty: bool) -> None:
    """Raise ClickException where there is nothing to draw or no place for it."""
    from aiida_e3relax.common.errors import InputError
    from aiida_e3relax.common.figures import check_figure

    if is_empty:
        raise click.ClickException(f'{path}: there is nothing to draw, VASP has not finished an ionic step')
    try:
        check_figure(path)
    except InputError as error:
        raise click.ClickException(str(error)) from error
