"""``e3relax ablate``."""

from __future__ import annotations

import argparse

from aiida_e3relax.gnn.cli.experiments import COMMON, add_experiment_options, run_experiment

DESCRIPTION = f"""
Train a model with parts of it switched off, one after the other, with several seeds, and compare what is left with the
model itself.
{COMMON}"""


def add_to(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser('ablate', help='what each part of a model is worth', description=DESCRIPTION)
    add_experiment_options(parser)
    parser.add_argument('--model', help='the model (default: e3relax-h2)')
    parser.add_argument('--variants', nargs='+', metavar='NAME', help='ablations by name; default: all in the manual')
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    return run_experiment('ablate', options, {'model': options.model, 'variants': options.variants})
