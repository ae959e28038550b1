"""``e3relax data``."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_to(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser('data', help='gather pairs of unrelaxed and relaxed crystals into one .npz')
    parser.add_argument('source', type=Path, help="folder in the papers' layout (CIF/, train|val|test.csv), or an .npz")
    parser.add_argument('--output', type=Path, required=True, help='the .npz to write')
    parser.add_argument('--name', help='name of the data set; default: that of the source')
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from aiida_e3relax.gnn.datasets import SPLITS, read_pairs, write_pairs

    pairs = read_pairs(options.source, options.name)
    write_pairs(options.output, pairs)
    counts = ', '.join(f'{(pairs.split == split).sum()} {split}' for split in SPLITS)
    print(f'{options.output}: {len(pairs)} pairs ({counts}), {int(pairs.unrelaxed.n_atoms.sum())} atoms')
    return 0
