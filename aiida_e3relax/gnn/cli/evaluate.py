"""``e3relax evaluate``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from aiida_e3relax.gnn.cli.options import add_device, add_model


def add_to(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser('evaluate', help="the papers' measures of a model on one split, beside doing nothing")
    parser.add_argument('pairs', nargs='+', type=Path, help='data sets, as `e3relax data` writes or reads them')
    add_model(parser)
    parser.add_argument('--split', default='test', choices=['train', 'val', 'test'])
    parser.add_argument('--no-match', action='store_true', help='leave out the match rate, which takes longest')
    parser.add_argument('--json', type=Path, help='also write the table here')
    add_device(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from aiida_e3relax.gnn.checkpoint import load_checkpoint
    from aiida_e3relax.gnn.datasets import read_pairs
    from aiida_e3relax.gnn.evaluate import evaluate, table
    from aiida_e3relax.gnn.runtime import prepare_device

    device = prepare_device(options.device, options.threads)
    checkpoint = load_checkpoint(options.model)
    rows = []
    for path in options.pairs:
        pairs = read_pairs(path).of_split(options.split)
        rows += evaluate(checkpoint, pairs, device, with_matches=not options.no_match)
    print(table(rows))
    if options.json:
        content = {'model': checkpoint.content_hash, 'split': options.split, 'rows': rows}
        options.json.write_text(json.dumps(content, indent=2) + '\n', encoding='utf-8')
    return 0
