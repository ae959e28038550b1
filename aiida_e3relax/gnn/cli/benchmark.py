"""``e3relax benchmark``."""

from __future__ import annotations

import argparse

from aiida_e3relax.gnn.cli.experiments import COMMON, add_experiment_options, run_experiment

DESCRIPTION = f"""
Train models on the same data for the same number of steps, with several seeds, and compare them as the papers' tables
do, beside the Dummy: every measure in both frames with its spread, the improvement over the best other model, and what
each model costs.
{COMMON}"""


def add_to(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser(
        'benchmark', help="train and compare models as the papers' tables do", description=DESCRIPTION
    )
    add_experiment_options(parser)
    parser.add_argument('--models', nargs='+', metavar='MODEL', help='models to compare; docs/model.md has their names')
    parser.add_argument('--reference', help='model whose improvement over the best other is stated; default: the first')
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    return run_experiment('benchmark', options, {'models': options.models, 'reference': options.reference})
