"""`aiida-e3relax relax`: one crystal through the chain."""

from __future__ import annotations

from typing import Any

import click

from aiida_e3relax.cli.chain_options import PROTOCOLS_EPILOG, chain_options
from aiida_e3relax.cli.profile import profile_option, use_profile
from aiida_e3relax.cli.structure_argument import check_structure_argument
from aiida_e3relax.workflows.demo import DEMO_CRYSTALS

DEMO_PROTOCOL = 'fast'


@click.command(epilog=PROTOCOLS_EPILOG)
@click.argument('structure', required=False)
@click.option(
    '--demo',
    type=click.Choice(list(DEMO_CRYSTALS)),
    help='A crystal that comes with the package, instead of STRUCTURE; by the protocol fast unless another is given.',
)
@chain_options
@click.option(
    '--reference-leg',
    metavar='WHEN',
    help='When to relax the raw structure too, for the comparison: always, sample, never, or the PK or UUID of an '
    'earlier chain whose raw leg is taken.  [default: never; always of a demo]',
)
@click.option('--submit', 'to_daemon', is_flag=True, help='Hand it to the daemon and return at once.')
@profile_option
def relax(structure: str | None, demo: str | None, to_daemon: bool, profile: str | None, **options: Any) -> None:
    """Relax a crystal with VASP from a prediction of what it relaxes to.

    What predicts is a network or, with --pre-relaxer, an interatomic potential, or one after the other. With
    `--reference-leg always` VASP also relaxes the crystal as it is, and both are compared.

    STRUCTURE is a file that ASE reads, such as POSCAR or CIF, or the PK or UUID of a StructureData. Sites that the file
    fixes, as by selective dynamics, stay fixed. `aiida-e3relax setup` makes all that a first try needs, with a stand-in
    instead of VASP.
    """
    use_profile(profile)
    if structure and demo:
        raise click.UsageError('give either STRUCTURE or --demo')
    if structure:
        check_structure_argument(structure)
    if demo and options['protocol'] is None:
        options['protocol'] = DEMO_PROTOCOL

    from aiida.common.exceptions import NotExistent
    from aiida.engine import submit
    from rich.console import Console

    from aiida_e3relax.campaign.submission.daemon import NO_DAEMON, Daemon
    from aiida_e3relax.cli.relax_inputs import choose_start, describe_relaxations, make_builder
    from aiida_e3relax.cli.watch import run_watched
    from aiida_e3relax.workflows.comparison.text import format_chain

    console = Console()
    try:
        builder = make_builder(choose_start(structure, demo, options['vasp_code']), options)
    except (ValueError, NotExistent) as error:
        raise click.ClickException(str(error)) from error
    console.print(describe_relaxations(builder), style='dim', highlight=False)
    if to_daemon:
        if not Daemon().count_workers():
            raise click.ClickException(f'--submit: {NO_DAEMON}, or leave out --submit')
        chain = submit(builder)
        console.print(
            f'Submitted E3RelaxVaspWorkChain<{chain.pk}>; follow it with `verdi process status -c {chain.pk}`'
        )
        return
    chain = run_watched(builder, console)
    console.print(format_chain(chain))
    if not chain.is_finished_ok:
        raise SystemExit(1)
