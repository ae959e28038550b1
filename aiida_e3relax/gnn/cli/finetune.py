"""``e3relax finetune``."""

from __future__ import annotations

import argparse

from aiida_e3relax.gnn.cli.options import checkpoint_path
from aiida_e3relax.gnn.cli.train import add_run_options, run_training

DESCRIPTION = """
Go on from the weights of CHECKPOINT with the data and settings of CONFIG, a file as for `e3relax train`. The model is
the checkpoint's, and the preset is `finetune` unless the file names another. The same command again continues an
interrupted run where it was.
"""


def add_to(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser('finetune', help='tune a trained model on other data', description=DESCRIPTION)
    parser.add_argument(
        'checkpoint',
        type=checkpoint_path,
        metavar='CHECKPOINT',
        help='the model to start from; `default` is the one that comes with the package',
    )
    parser.add_argument(
        '--new-elements', action='store_true', help='accept elements that the checkpoint was not trained on'
    )
    add_run_options(parser)
    parser.set_defaults(run=lambda options: run_training(options, options.checkpoint))
