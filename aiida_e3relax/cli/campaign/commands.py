"""`aiida-e3relax campaign`: many structures through the chain."""

from __future__ import annotations

from pathlib import Path

import click

from aiida_e3relax.cli.campaign.create import create
from aiida_e3relax.cli.extras import require_report
from aiida_e3relax.cli.profile import profile_option, use_profile

SHOWN_CRYSTALS = 60
"""More crystals than these are not printed one by one."""
OUTPUT_FOLDER = click.Path(file_okay=False, path_type=Path)
classes_option = click.option(
    '--classes',
    metavar='FILE',
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    help='A CSV file with the columns label and class: the class of each crystal, in the place of that of its anion.',
)


@click.group()
def campaign() -> None:
    """Relax many structures, with and without the network, and measure what it saves.

    A campaign lives in the AiiDA profile and nowhere else. Whatever is stopped or killed, `run` goes on where it was,
    and nothing is done twice.
    """


campaign.add_command(create)


@campaign.command('list')
@click.option('--raw', is_flag=True, help='Print lines with tabs between the cells and no headings.')
@profile_option
def list_campaigns(raw: bool, profile: str | None) -> None:
    """List the campaigns of the profile, the newest last."""
    use_profile(profile)

    from rich.console import Console

    from aiida_e3relax.campaign.group import find_campaigns
    from aiida_e3relax.cli.campaign.status_table import draw_list, format_group

    rows = [format_group(group) for group in find_campaigns()]
    if raw:
        for cells in rows:
            click.echo('\t'.join(cells))
    elif rows:
        Console().print(draw_list(rows))
        click.echo('More on one: aiida-e3relax campaign status NAME; what it found: aiida-e3relax campaign report NAME')
    else:
        click.echo('There are none in this profile. Make one: aiida-e3relax campaign create')


@campaign.command()
@click.argument('name')
@click.option(
    '--max-running',
    type=click.IntRange(min=1),
    help='Change how many chains run at the same time, those of its arms counted.',
)
@click.option(
    '--network-jobs',
    type=click.IntRange(min=1),
    help='Change how many jobs of the network run at the same time, in the campaign and in each of its arms.',
)
@click.option(
    '--retry-failed',
    is_flag=True,
    help='Submit another chain for each structure whose last one failed, and run the network again for each batch that '
    'is held back because it failed as a whole.',
)
@click.option(
    '--raw-on-network-failure/--hold-on-network-failure',
    'raw_on_network_failure',
    default=None,
    help='Whether VASP relaxes the raw structures of a batch for which the network failed as a whole, for good; by '
    'default they are held back, since a mistake in its code would cost all that the network is to save.',
)
@click.option(
    '--interval', type=click.FloatRange(min=0.1), default=5.0, show_default=True, help='Seconds between looks.'
)
@click.option('--this-arm', is_flag=True, help='Submit this campaign alone, and not the arms that share its raw legs.')
@profile_option
def run(
    name: str,
    max_running: int | None,
    network_jobs: int | None,
    retry_failed: bool,
    raw_on_network_failure: bool | None,
    interval: float,
    this_arm: bool,
    profile: str | None,
) -> None:
    """Submit the campaign NAME and its arms to the daemon, bit by bit, and show how far they are.

    It can be stopped with Ctrl-C or killed: what is submitted goes on in the daemon, and the same command goes on
    submitting. The exit code is 1 where structures are held back at the end. In a file or a pipe a line is written for
    each change.
    """
    use_profile(profile)

    from aiida_e3relax.cli.campaign.run import run_campaign

    run_campaign(name, max_running, network_jobs, retry_failed, raw_on_network_failure, interval, this_arm)


@campaign.command()
@click.argument('name')
@profile_option
def status(name: str, profile: str | None) -> None:
    """Show once how far the campaign NAME is."""
    use_profile(profile)

    from rich.console import Console

    from aiida_e3relax.campaign.group import load_campaign
    from aiida_e3relax.campaign.submission.status import read_status
    from aiida_e3relax.cli.campaign.errors import plain_errors
    from aiida_e3relax.cli.campaign.learning import show_learning
    from aiida_e3relax.cli.campaign.status_table import draw_status

    with plain_errors(name):
        status = read_status(load_campaign(name))
        Console().print(draw_status(status))
        if status.learning:
            show_learning(name)


@campaign.command()
@click.argument('name')
@click.argument('changes', nargs=-1, metavar='[KEY=VALUE]...')
@profile_option
def learn(name: str, changes: tuple[str, ...], profile: str | None) -> None:
    """Tune the model of the campaign NAME on what has finished, now and whatever `create --learn` said.

    It runs beside the campaign. Where the new model is better, what has not begun is predicted by it.

    KEY=VALUE sets how it trains, in this round and in all later ones: training=FILE, code=CODE, replay-of=PAIRS (which
    may be given again), replay=N, as for `create --learn`. What is not named stays as it is.
    """
    use_profile(profile)

    from aiida_e3relax.cli.campaign.learning import learn_now

    learn_now(name, changes)


@campaign.command()
@click.argument('name')
@click.option('--running', is_flag=True, help='Pause the chains that run, too; their VASP jobs go on.')
@click.option('--this-arm', is_flag=True, help='Pause this campaign alone, and not the arms that share its raw legs.')
@profile_option
def pause(name: str, running: bool, this_arm: bool, profile: str | None) -> None:
    """Submit no more of the campaign NAME and its arms until `resume`."""
    use_profile(profile)

    from aiida_e3relax.cli.campaign.pausing import pause_campaign

    pause_campaign(name, running, this_arm)


@campaign.command()
@click.argument('name')
@click.option('--this-arm', is_flag=True, help='Resume this campaign alone, and not the arms that share its raw legs.')
@profile_option
def resume(name: str, this_arm: bool, profile: str | None) -> None:
    """Undo `pause`: chains that it paused go on, and `run` submits the campaign NAME and its arms again."""
    use_profile(profile)

    from aiida_e3relax.cli.campaign.pausing import resume_campaign

    resume_campaign(name, this_arm)


def _read_classes(path: Path | None, table: Path | None) -> dict[str, str] | None:
    """Return the classes of crystals in a file; raises InputError where the `table` to be written would replace it."""
    from aiida_e3relax.common.errors import InputError
    from aiida_e3relax.common.label_table import read_label_table
    from aiida_e3relax.common.output_files import is_same_file

    if path is None:
        return None
    if table is not None and is_same_file(path, table):
        raise InputError(
            f'--classes {path}: the table in {table.parent} has this name, and would replace it: rename it'
        )
    return read_label_table(path, 'class')


@campaign.command()
@click.argument('name')
@click.option('--folder', type=OUTPUT_FOLDER, help='Where to.  [default: a folder called NAME]')
@classes_option
@profile_option
def report(name: str, folder: Path | None, classes: Path | None, profile: str | None) -> None:
    """Write what the campaign NAME found: a page for a browser, tables and figures.

    It covers what has ended so far, and can be written again at any time.
    """
    require_report()
    use_profile(profile)

    from aiida_e3relax.campaign.output import default_folder
    from aiida_e3relax.campaign.report.files import TABLE, write_report
    from aiida_e3relax.cli.campaign.errors import plain_errors

    with plain_errors(name):
        folder = folder or default_folder(name)
        page = write_report(name, folder, _read_classes(classes, folder / TABLE))
    click.echo(f'Report: {page.resolve()}')


@campaign.command()
@click.argument('names', metavar='NAME [OTHER...]', nargs=-1, required=True)
@click.option(
    '--output',
    'folder',
    metavar='FOLDER',
    type=OUTPUT_FOLDER,
    help='Write all of it into FOLDER as well: compare.md, compare.csv with one row a crystal, and a figure.',
)
@classes_option
@profile_option
def compare(names: tuple[str, ...], folder: Path | None, classes: Path | None, profile: str | None) -> None:
    """Set the arms of the campaign NAME side by side: which start saves VASP most, how surely, and for which crystals.

    A campaign stands for itself and its arms, an arm for itself alone; OTHER ones are of the same structures. Campaigns
    of different structures, such as those that need another cutoff, are taken as one with a comma between them: A,B.
    Their arms are taken together by pre-relaxer. What is waiting or running is in no figure, so that this can be asked
    at any time.
    """
    require_report()
    use_profile(profile)

    from aiida_e3relax.campaign.report.arms import TABLE, write_comparison
    from aiida_e3relax.campaign.results.arm_frames import compare_campaigns
    from aiida_e3relax.campaign.results.arm_tables import (
        describe_arms,
        format_text,
        tabulate_arms,
        tabulate_crystals,
    )
    from aiida_e3relax.cli.campaign.errors import plain_errors
    from aiida_e3relax.common.messages import printable

    with plain_errors(names[0]):
        comparison = compare_campaigns(names, _read_classes(classes, folder and folder / TABLE))
        tables = tabulate_arms(comparison) if comparison.n else []
        if tables and len(comparison.by_crystal) <= SHOWN_CRYSTALS:
            tables.append(tabulate_crystals(comparison))
        for line in '\n\n'.join([*describe_arms(comparison), *map(format_text, tables)]).split('\n'):
            click.echo(printable(line))
        files = write_comparison(comparison, names, folder) if folder else []
    for file in files:
        click.echo(f'Written: {file.resolve()}')


@campaign.command()
@click.argument('name')
@click.option('--folder', type=OUTPUT_FOLDER, help='Where to.  [default: a folder called NAME-export]')
@profile_option
def export(name: str, folder: Path | None, profile: str | None) -> None:
    """Write the campaign NAME as files to publish: AiiDA archive, table, and what to cite.

    No content of a POTCAR is in them. Whom and which machines the archive names is printed at the end: read it before
    you publish. All processes must have ended.
    """
    require_report()
    use_profile(profile)

    from aiida_e3relax.campaign.archive import export_campaign
    from aiida_e3relax.campaign.output import default_folder
    from aiida_e3relax.campaign.personal import find_personal, format_personal
    from aiida_e3relax.cli.campaign.errors import plain_errors

    with plain_errors(name):
        archive, *others = export_campaign(name, folder or default_folder(name, '-export'))
    for file in (archive, *others):
        click.echo(file.resolve())
    click.echo(f'\nThe archive names, for whoever opens it:\n{format_personal(find_personal(archive))}', err=True)
    click.echo('Job scripts, outputs of VASP, messages of errors and comments are in it, too.', err=True)
