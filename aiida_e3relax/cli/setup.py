"""`aiida-e3relax setup`: what runs need, in the current profile."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from aiida_e3relax.cli.profile import profile_option, use_profile
from aiida_e3relax.standin.engine_names import ENGINES

EXAMPLES = {
    'laptop': 'laptop.yaml',
    'workstation': 'workstation.yaml',
    'slurm': 'slurm.yaml',
    'apptainer': 'apptainer.yaml',
    'apptainer-image': 'e3relax.def',
}
"""Files in the folder `setup_file/examples` by the word that prints them."""

OF_FIRST_RUN = ('engines', 'pre_relaxer')
OF_FILE = ('is_dry', 'is_tested', 'overrides')


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
@click.option(
    '--config',
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help='YAML with the computers, codes, potentials and models that the profile is to hold, see --example.',
)
@click.option('--interactive', is_flag=True, help='Ask what is needed, write it into such a file, and go on with that.')
@click.option(
    '--example',
    type=click.Choice(list(EXAMPLES)),
    help='Print such a file to begin with; apptainer-image prints the definition of the container.',
)
@click.option(
    '--test/--no-test',
    'is_tested',
    default=True,
    help='Whether a live test ends it: connections, a small job of each code of the network, what VASP needs.  '
    '[default: test]',
)
@click.option('--dry-run', 'is_dry', is_flag=True, help='Check everything, make nothing.')
@click.option(
    '--overrides',
    type=click.Path(dir_okay=False, path_type=Path),
    help='File for what the codes are to ask the scheduler for, as chains take it.  [default: the terminal]',
)
@profile_option
@click.pass_context
def setup(
    context: click.Context,
    engines: tuple[str, ...],
    pre_relaxer: str | None,
    config: Path | None,
    interactive: bool,
    example: str | None,
    is_tested: bool,
    is_dry: bool,
    overrides: Path | None,
    profile: str | None,
) -> None:
    """Make what runs need in an AiiDA profile; what is there already stays.

    Without --config or --interactive that is what a first run needs: the computer `localhost`, the codes
    `e3relax@localhost` and `vasp-standin-<engine>@localhost`, the stand-in's potentials, and the model that comes with
    the package.

    With them it is what the file says. Everything is checked before anything is made; what is there and differs is
    refused, with what to do. At the end everything is tested, and the exit status is 1 where something failed.
    """
    if example is not None:
        folder = Path(__file__).parent / 'setup_file' / 'examples'
        click.echo((folder / EXAMPLES[example]).read_text(encoding='utf-8'), nl=False)
        return
    has_file = config is not None or interactive
    if config is not None and interactive:
        raise click.UsageError('--config and --interactive: expected one of the two')
    _refuse_options(context, OF_FIRST_RUN if has_file else OF_FILE, has_file)
    loaded = use_profile(profile)
    if not has_file:
        _set_up_first_run(loaded, engines, pre_relaxer)
        return

    from aiida_e3relax.cli.setup_file.run import run_setup

    if not run_setup(config or _write_answers(), loaded, is_dry, is_tested, overrides):
        context.exit(1)


def _refuse_options(context: click.Context, names: tuple[str, ...], has_file: bool) -> None:
    """Raise UsageError for options that have no meaning with, or without, a file."""
    given = [name for name in names if context.get_parameter_source(name) == ParameterSource.COMMANDLINE]
    if given:
        word = next(option for option in context.command.params if option.name == given[0]).opts[0]
        remedy = 'write it into the file' if has_file else 'give --config or --interactive beside it'
        raise click.UsageError(f'{word}: {remedy}')


def _write_answers() -> Path:
    """Ask, show the file that the answers make, write it, and return where."""
    from aiida_e3relax.cli.setup_file.questions import ask_setup

    text = ask_setup()
    click.echo(f'\n{text}')
    path = click.prompt('Write this to', default=Path('e3relax-setup.yaml'), type=click.Path(path_type=Path))
    if path.exists():
        click.confirm(f'{path} is there; overwrite it', abort=True)
    path.write_text(text, encoding='utf-8')
    return path


def _set_up_first_run(profile: str, engines: tuple[str, ...], pre_relaxer: str | None) -> None:
    """Make what a first run needs, and print it."""
    from rich.console import Console
    from rich.table import Table

    from aiida_e3relax.calculations.pre_relaxer import PreRelaxer
    from aiida_e3relax.cli.resources import provide_all

    table = Table(title=f'AiiDA profile {profile}', title_justify='left')
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
