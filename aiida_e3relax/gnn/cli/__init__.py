"""The console script ``e3relax``: one module a command."""

from __future__ import annotations

import argparse
import sys

from aiida_e3relax.gnn.cli import data, ensemble, evaluate, finetune, import_checkpoint, predict, train
from aiida_e3relax.gnn.errors import RunError

COMMANDS = (predict, data, train, finetune, ensemble, evaluate, import_checkpoint)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except RunError as error:
        print(f'e3relax: error: {error}', file=sys.stderr)
        return error.exit_status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='e3relax', description='Predict the relaxed form of crystals in one pass of an equivariant graph network.'
    )
    commands = parser.add_subparsers(required=True, metavar='COMMAND')
    for command in COMMANDS:
        command.add_to(commands)
    return parser
