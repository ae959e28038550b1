"""`aiida-e3relax validate`: the energies of predictions, by one static run of VASP each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aiida_e3relax.cli.chain_options import PROTOCOLS_EPILOG, static_options
from aiida_e3relax.cli.extras import require_report
from aiida_e3relax.cli.profile import profile_option, use_profile
from aiida_e3relax.cli.several_values import SeveralValues, SeveralValuesCommand

MAX_RUNNING = 10


@click.command(cls=SeveralValuesCommand, epilog=PROTOCOLS_EPILOG)
@click.argument('pairs', type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option('--split', default='test', show_default=True, help='Of the data file.')
@click.option('--draw', type=click.IntRange(min=1), help='How many pairs to draw at random.  [default: all]')
@click.option('--seed', type=click.IntRange(min=0), default=0, show_default=True, help='For drawing them.')
@click.option(
    '--unmatched',
    is_flag=True,
    help="Leave out pairs whose unrelaxed crystal pymatgen's StructureMatcher maps on the relaxed one.",
)
@click.option(
    '--models',
    cls=SeveralValues,
    metavar='MODEL...',
    help='Each a checkpoint file, the label, PK or UUID of a model node, or `default`; NAME=MODEL calls it NAME in '
    'tables.  [default: default]',
)
@click.option(
    '--name', help='Of the validation in the profile, and of the folder of its report.  [default: by the data and draw]'
)
@click.option(
    '--max-running',
    type=click.IntRange(min=1),
    default=MAX_RUNNING,
    show_default=True,
    help='How many jobs run at the same time.',
)
@click.option('--retry-failed', is_flag=True, help='Submit another run for each that failed.')
@click.option('--report-only', is_flag=True, help='Submit nothing; write the report of what has ended.')
@click.option(
    '--folder', type=click.Path(file_okay=False, path_type=Path), help='Of the report.  [default: as the name]'
)
@click.option(
    '--interval', type=click.FloatRange(min=0.1), default=5.0, show_default=True, help='Seconds between looks.'
)
@static_options
@profile_option
def validate(
    pairs: Path,
    split: str,
    draw: int | None,
    seed: int,
    unmatched: bool,
    models: tuple[str, ...],
    name: str | None,
    max_running: int,
    retry_failed: bool,
    report_only: bool,
    folder: Path | None,
    interval: float,
    profile: str | None,
    **options: Any,
) -> None:
    """Compute with VASP the energy of predicted crystals over that of the relaxed ones.

    PAIRS is a training file that `e3relax data` wrote. Each model predicts all the crystals in one job; then VASP
    computes the unrelaxed, the relaxed and each predicted crystal as it is, in one static run each, and the report
    compares. The same command goes on where it was stopped, and with more models it computes only these: no energy is
    computed twice. The daemon must run.
    """
    require_report()
    use_profile(profile)

    from aiida_e3relax.cli.validation import Request, run_validation

    request = Request(pairs, split, draw, seed, unmatched, models or ('default',), name)
    run_validation(request, options, max_running, retry_failed, report_only, folder, interval)
