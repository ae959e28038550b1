"""``e3relax ensemble``."""

from __future__ import annotations

import argparse
from pathlib import Path

from aiida_e3relax.gnn.cli.options import add_device, check_checkpoint_output, checkpoint_path

HELP = 'make one checkpoint of several, whose mean is more accurate and whose spread says how far to trust it'

DESCRIPTION = """
Make one checkpoint of several that were trained apart, with other seeds or other data.

Its prediction is the mean of its members'. Their spread is written as the uncertainty of every structure, in A; with
--calibrate it is scaled to the errors found on the val splits of training files, which no member may have been trained
on. docs/model.md says what the number means.
"""


def add_to(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser('ensemble', help=HELP, description=DESCRIPTION)
    parser.add_argument(
        'checkpoints', nargs='+', type=checkpoint_path, metavar='CHECKPOINT', help='members, of one size'
    )
    parser.add_argument(
        '--output', type=Path, required=True, help='the checkpoint to write (.pt), with its model card beside it'
    )
    parser.add_argument(
        '--calibrate', nargs='+', type=Path, metavar='PAIRS', help='training files that `e3relax data` wrote'
    )
    parser.add_argument('--half', action='store_true', help='keep the weights in half precision: half the file')
    add_device(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from aiida_e3relax.common.errors import InputError
    from aiida_e3relax.crystals.datasets.pairs_file import read_pairs
    from aiida_e3relax.crystals.pairs import Pairs
    from aiida_e3relax.gnn.device import prepare_device
    from aiida_e3relax.gnn.training.ensembles import calibrate, combine

    check_checkpoint_output(options.output)
    pairs = None
    if options.calibrate:
        device = prepare_device(options.device, options.threads)
        pairs = Pairs.concatenate(read_pairs(path).of_split('val') for path in options.calibrate)
        if not len(pairs):
            raise InputError(f'--calibrate {", ".join(map(str, options.calibrate))}: no pair of the split val')
    checkpoint = combine(options.checkpoints, options.output, options.half)
    if pairs is not None:
        checkpoint = calibrate(options.output, pairs, device)
        factor = checkpoint.model.hyperparameters.uncertainty_scale
        print(f'uncertainty: {factor:.3f} times the deviation of the members, from {len(pairs)} pairs')
    count = sum(p.numel() for p in checkpoint.model.parameters())
    print(f'{options.output}: {len(options.checkpoints)} members, {count:,} parameters, {checkpoint.content_hash}')
    return 0
