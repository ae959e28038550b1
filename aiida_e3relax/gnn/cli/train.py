"""``e3relax train``."""

from __future__ import annotations

import argparse
from pathlib import Path

from aiida_e3relax.gnn.cli.options import add_device


def add_to(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser(
        'train', help='train a model; the same command again continues an interrupted run where it was'
    )
    parser.add_argument('pairs', nargs='+', type=Path, help='training files that `e3relax data` wrote')
    parser.add_argument(
        '--output', type=Path, required=True, help='folder for best.pt, last.pt, log.csv, settings.json'
    )
    parser.add_argument('--settings', type=Path, help='JSON file with training settings (settings.json of another run)')
    parser.add_argument(
        '--set',
        action='append',
        default=[],
        metavar='NAME=VALUE',
        help='one training setting or hyper-parameter of the model, e.g. --set steps=5000 --set features=64',
    )
    parser.add_argument('--stop-after', type=int, help='stop at this step; the same command continues later')
    add_device(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from aiida_e3relax.gnn.datasets import read_pairs
    from aiida_e3relax.gnn.pairs import Pairs
    from aiida_e3relax.gnn.runtime import prepare_device
    from aiida_e3relax.gnn.train import train
    from aiida_e3relax.gnn.training_settings import read_settings

    settings = read_settings(options.settings, options.set)
    device = prepare_device(options.device, options.threads)
    pairs = Pairs.concatenate(read_pairs(path) for path in options.pairs)
    train(pairs, settings, options.output, device, options.stop_after)
    return 0
