"""`aiida-e3relax setup`: what a first run needs, in the current profile."""

from __future__ import annotations

import click

from aiida_e3relax.cli.profile import profile_option, use_profile
from aiida_e3relax.standin.engine_names import ENGINES


@click.command()
@click.option(
    '--engine',
    'engines',
    type=click.Choice(ENGINES),
    multiple=True,
    default=('emt',),
    show_default=True,
    help='Energies behind the VASP stand-in; may be given more than once.',
)
@click.option(
    '--pre-relaxer',
    metavar='WHO',
    help="What makes VASP's start where nothing else is named: network, a potential, or both, see `aiida-e3relax "
    'pre-relaxer`.  [default: what is set, else sevennet-mf-0 where SevenNet is installed, else network]',
)
@profile_option
def setup(engines: tuple[str, ...], pre_relaxer: str | None, profile: str | None) -> None:
    """Make what a first run needs in an AiiDA profile; what is there already stays.

    That is the computer `localhost`, the codes `e3relax@localhost` and `vasp-standin-<engine>@localhost`, the
    stand-in's potentials, and the model that comes with the package.
    """
    loaded = use_profile(profile)

    from rich.console import Console
    from rich.table import Table

    from aiida_e3relax.calculations.pre_relaxer import PreRelaxer
    from aiida_e3relax.cli.resources import provide_all

    table = Table(title=f'AiiDA profile {loaded}', title_justify='left')
    for column in ('what', 'name', 'state'):
        table.add_column(column)
    try:
        asked = None if pre_relaxer is None else PreRelaxer.parse(pre_relaxer)
    except ValueError as error:
        raise click.ClickException(f'--pre-relaxer: {error}') from error
    try:
        for resource in provide_all(engines, asked):
            table.add_row(resource.kind, resource.name, 'created' if resource.created else 'was there')
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    finally:
        Console().print(table)
