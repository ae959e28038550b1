"""``e3relax ensemble``."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = 'make one checkpoint of several, whose mean is more accurate and whose spread tells how far to trust it'

DESCRIPTION = """
Make one checkpoint of several that were trained apart, with other seeds or other data.

Its prediction is the mean of its members'. Their spread is written as the uncertainty of every structure, in A.
"""


def add_to(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser('ensemble', help=HELP, description=DESCRIPTION)
    parser.add_argument('checkpoints', nargs='+', type=Path, metavar='CHECKPOINT', help='members, of one size')
    parser.add_argument(
        '--output', type=Path, required=True, help='the checkpoint to write (.pt), with its model card beside it'
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from aiida_e3relax.gnn.ensembles import combine
    from aiida_e3relax.gnn.errors import InputError

    if options.output.suffix != '.pt':
        raise InputError(f'{options.output}: expected a name that ends in .pt')
    if not options.output.parent.is_dir():
        raise InputError(f'{options.output}: the folder {options.output.parent} does not exist')
    checkpoint = combine(options.checkpoints, options.output)
    count = sum(p.numel() for p in checkpoint.model.parameters())
    print(f'{options.output}: {len(options.checkpoints)} members, {count:,} parameters, {checkpoint.content_hash}')
    return 0
