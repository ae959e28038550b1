"""A run of `aiida-e3relax setup` with a file: its tables on the terminal, and whether all is well."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from aiida_e3relax.cli.setup_file.checks import FAILED, PASSED
from aiida_e3relax.cli.setup_file.live_test import run_live_test
from aiida_e3relax.cli.setup_file.overrides import SEPARATOR, write_overrides
from aiida_e3relax.cli.setup_file.plan import plan_setup
from aiida_e3relax.cli.setup_file.settings import SetupSettings, read_setup
from aiida_e3relax.common.messages import short

LONGEST = 160
"""Characters of a cell; what failed is told in full below the table."""

COLOURS = {PASSED: 'green', FAILED: 'bold red'}


def run_setup(path: Path, profile: str, is_dry: bool, is_tested: bool, overrides: Path | None) -> bool:
    """Make what the file at `path` says in the loaded profile, test it, and return whether all is well.

    Nothing is made where `is_dry`, or where one thing cannot be as the file has it. What chains are to ask the
    scheduler for is printed, or goes to the file `overrides`, unless the test has failed.

    Raises ClickException for a file that cannot be, and for what cannot be made.
    """
    try:
        settings = read_setup(path)
        steps = plan_setup(settings)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    text = write_overrides(settings)
    if overrides is not None:
        check_overrides(overrides, text)
    console = Console()
    table = _table(f'AiiDA profile {profile}', 'what', 'name', 'state')
    try:
        for step in steps:
            if step.todo and not is_dry:
                step.make()
            state = f'would be {step.todo}' if step.todo and is_dry else step.todo or 'was there'
            table.add_row(step.kind, step.name, state)
    except ValueError as error:
        raise click.ClickException(
            f'{error}\nWhat the table shows is made; mend this and run the command again.'
        ) from error
    finally:
        console.print(table)
    if is_dry:
        return True
    passed = not is_tested or _test(settings, console)
    if text and passed:
        _show_overrides(text, overrides)
    elif text:
        withheld = 'not shown' if overrides is None else f'not written to {overrides}'
        click.echo(
            f'What chains ask the scheduler for is {withheld}, as the live test has failed: mend what it says and run '
            'the command again; with --no-test you get it as it is.',
            err=True,
        )
    return passed


def _test(settings: SetupSettings, console: Console) -> bool:
    """Run the live test and print its table and its remedies; return whether nothing failed."""
    table = _table('Live test', 'what', 'name', 'result', 'found')
    failures = []
    try:
        for outcome in run_live_test(settings, lambda doing: click.echo(f'{doing} ...', err=True)):
            colour = COLOURS.get(outcome.state, '')
            state = f'[{colour}]{outcome.state}[/]' if colour else outcome.state
            table.add_row(outcome.kind, outcome.name, state, _plain(short(outcome.found, LONGEST)))
            if outcome.state == FAILED:
                failures.append(outcome)
    finally:
        console.print(table)
    for outcome in failures:
        click.echo(f'{outcome.kind} {outcome.name}: {outcome.found}\n  what to do: {outcome.remedy}', err=True)
    return not failures


def _plain(text: str) -> str:
    """Return a text that Rich takes as it is."""
    return text.replace('[', r'\[')


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify='left')
    for column in columns:
        table.add_column(column, overflow='fold', no_wrap=column == 'name')
    return table


def check_overrides(path: Path, text: str) -> None:
    """Raise ClickException where chains could not read the file of overrides, or it would replace another one."""
    if not text:
        raise click.ClickException('--overrides: expected a code with `options` in the file, found none')
    if SEPARATOR in text:
        raise click.ClickException(
            '--overrides: expected one code of a plugin with `options`, found several, whose chains ask for other '
            'things; leave it out, and copy what is printed at the end into a file for each'
        )
    if not path.parent.is_dir():
        raise click.ClickException(f'--overrides {path}: expected a folder {path.parent} that is there, found none')
    if path.exists() and path.read_text(encoding='utf-8') != text:
        raise click.ClickException(f'--overrides {path}: another file is there; name a new one, or remove it')


def _show_overrides(text: str, path: Path | None) -> None:
    usage = '`--overrides FILE` of `aiida-e3relax relax` and `campaign create`'
    if path is None:
        click.echo(f'Chains ask for the same by {usage}, a file with:\n\n{text}')
    else:
        path.write_text(text, encoding='utf-8')
        click.echo(f'What chains ask the scheduler for is in {path}, for {usage}.')
