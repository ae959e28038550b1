"""``e3relax finetune``."""

from __future__ import annotations

import argparse
from pathlib import Path

from aiida_e3relax.gnn.cli.options import checkpoint_path
from aiida_e3relax.gnn.cli.train import add_run_options, run_training

MOST_REPLAYED = 100
"""Old pairs for each new one."""
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
    parser.add_argument(
        '--replay',
        nargs='+',
        default=[],
        type=Path,
        metavar='FILE',
        help='training files that the checkpoint has learnt from: of their split `train` as many pairs as there are '
        'new ones are learnt again, but none of a chemical system that is validated on',
    )
    parser.add_argument(
        '--replay-share', type=_share, default=1.0, metavar='N', help='of these pairs for each new one; default: 1'
    )
    add_run_options(parser)
    parser.set_defaults(run=lambda options: run_training(options, options.checkpoint))


def _share(text: str) -> float:
    """Return a number of old pairs for each new one."""
    fault = f'expected a number from 0 to {MOST_REPLAYED}, found {text!r}'
    try:
        share = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(fault) from error
    if not 0 <= share <= MOST_REPLAYED:
        raise argparse.ArgumentTypeError(fault)
    return share
