"""``e3relax denoise``."""

from __future__ import annotations

import argparse
from pathlib import Path

from aiida_e3relax.gnn.cli.options import add_seed, check_training_file_output


def add_to(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser(
        'denoise',
        help='make training pairs of relaxed crystals that are strained and rattled',
        description='Take each relaxed crystal of the training splits of training files, strain and rattle it at '
        'random, and write the way back as a training file: real targets at no cost.',
    )
    parser.add_argument('pairs', nargs='+', type=Path, help='training files that `e3relax data` wrote')
    parser.add_argument('--output', type=Path, required=True, metavar='NAME.npz', help='the training file to write')
    parser.add_argument(
        '--strain',
        type=float,
        default=0.05,
        metavar='X',
        help='standard deviation of its diagonal entries; that of the others is smaller by sqrt(2) (default: 0.05)',
    )
    parser.add_argument(
        '--rattle',
        type=float,
        default=0.2,
        metavar='X',
        help='standard deviation of displacements, in A in each direction (default: 0.2)',
    )
    parser.add_argument('--copies', type=int, default=1, metavar='N', help='pairs of each crystal (default: 1)')
    add_seed(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from aiida_e3relax.crystals.datasets.pairs_file import read_different_pairs, write_pairs
    from aiida_e3relax.crystals.pairs import Pairs
    from aiida_e3relax.gnn.data.card import made_card, write_card_beside
    from aiida_e3relax.gnn.data.denoising import Noise, denoising_pairs
    from aiida_e3relax.gnn.data.summary import text

    check_training_file_output(options.output, options.pairs)
    noise = Noise(options.strain, options.rattle, options.copies, options.seed)
    noise.check()
    pairs, left_out = denoising_pairs(Pairs.concatenate(read_different_pairs(options.pairs)), noise)
    card = made_card(pairs, options.pairs, noise, rejected=left_out)
    write_pairs(options.output, pairs, card)
    beside = write_card_beside(options.output, card)
    print(text(card['summary']))
    for reason, count in left_out.items():
        print(f'left out {count}: {reason}')
    print(f'wrote {options.output} and {beside.name}')
    return 0
