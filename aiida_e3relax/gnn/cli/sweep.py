"""``e3relax sweep``."""

from __future__ import annotations

import argparse

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.gnn.cli.experiments import COMMON, FILES, add_experiment_options, run_experiment

DESCRIPTION = f"""
Train a model with other values of a setting or a size, NAME=VALUE,VALUE,..., one name after the other, with several
seeds, and show how much each matters.
{COMMON}"""


def add_to(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser('sweep', help='how much a size or a setting matters', description=DESCRIPTION)
    add_experiment_options(parser, ', and NAME=VALUE,VALUE,... to sweep')
    parser.add_argument('--model', help='the model (default: e3relax-h2)')
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from aiida_e3relax.gnn.experiments.config import parsed_values

    swept = {}
    for word in options.what:
        name, separator, text = word.partition('=')
        if separator and not word.endswith((*FILES, '.npz')):
            if name in swept:
                raise InputError(f'{word}: {name} is swept already: list all of its values at once')
            swept[name] = parsed_values(text)
    options.what = [word for word in options.what if word.partition('=')[0] not in swept or '=' not in word]
    return run_experiment('sweep', options, {'model': options.model, 'sweep': swept or None})
