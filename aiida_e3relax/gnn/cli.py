"""The console script ``e3relax``: data, train, evaluate and predict."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from aiida_e3relax.gnn.checkpoints import DEFAULT_CHECKPOINT
from aiida_e3relax.gnn.errors import RunError
from aiida_e3relax.gnn.prediction_settings import PredictionSettings


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
    for add in (_add_predict, _add_data, _add_train, _add_evaluate):
        add(commands)
    return parser


def _add_data(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser('data', help='gather pairs of unrelaxed and relaxed crystals into one .npz')
    parser.add_argument('source', type=Path, help="folder in the papers' layout (CIF/, train|val|test.csv), or an .npz")
    parser.add_argument('--output', type=Path, required=True, help='the .npz to write')
    parser.add_argument('--name', help='name of the data set; default: that of the source')
    parser.set_defaults(run=_data)


def _data(options: argparse.Namespace) -> int:
    from aiida_e3relax.gnn.datasets import SPLITS, read_pairs, write_pairs

    pairs = read_pairs(options.source, options.name)
    write_pairs(options.output, pairs)
    counts = ', '.join(f'{(pairs.split == split).sum()} {split}' for split in SPLITS)
    print(f'{options.output}: {len(pairs)} pairs ({counts}), {int(pairs.unrelaxed.n_atoms.sum())} atoms')
    return 0


def _add_train(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        'train', help='train a model; the same command again continues an interrupted run where it was'
    )
    parser.add_argument('pairs', nargs='+', type=Path, help='data sets, as `e3relax data` writes or reads them')
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
    _add_device(parser)
    parser.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> int:
    from aiida_e3relax.gnn.datasets import Pairs, read_pairs
    from aiida_e3relax.gnn.runtime import prepare_device
    from aiida_e3relax.gnn.train import train
    from aiida_e3relax.gnn.training_settings import read_settings

    settings = read_settings(options.settings, options.set)
    device = prepare_device(options.device, options.threads)
    pairs = Pairs.concatenate(read_pairs(path) for path in options.pairs)
    train(pairs, settings, options.output, device, options.stop_after)
    return 0


def _add_evaluate(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser('evaluate', help="the papers' measures of a model on one split, beside doing nothing")
    parser.add_argument('pairs', nargs='+', type=Path, help='data sets, as `e3relax data` writes or reads them')
    _add_model(parser)
    parser.add_argument('--split', default='test', choices=['train', 'val', 'test'])
    parser.add_argument('--no-match', action='store_true', help='leave out the match rate, which takes longest')
    parser.add_argument('--json', type=Path, help='also write the table here')
    _add_device(parser)
    parser.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> int:
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


def _add_predict(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser('predict', help='predict relaxed crystals')
    parser.add_argument('structures', nargs='+', type=Path, help='.npz of crystals, or any files that ASE reads')
    _add_model(parser)
    parser.add_argument(
        '--output', type=Path, required=True, help='predicted crystals: .npz, or a format that ASE writes by its suffix'
    )
    parser.add_argument('--report', type=Path, help='JSON with the status of every structure and the facts of the run')
    parser.add_argument('--dtype', choices=['float32', 'float64'], default='float32', help='default: float32')
    parser.add_argument(
        '--max-edges',
        type=int,
        default=PredictionSettings.max_edges,
        help='edges in one batch; bounds the memory (default: %(default)s)',
    )
    _add_device(parser)
    parser.set_defaults(run=_predict)


def _predict(options: argparse.Namespace) -> int:
    from aiida_e3relax.gnn.predict import predict_files

    settings = PredictionSettings(options.device, options.dtype, options.max_edges, options.threads)
    return predict_files(options.structures, options.model, options.output, options.report, settings)


def _add_model(parser: argparse.ArgumentParser) -> None:
    text = 'checkpoint; default: the one that comes with the package'
    parser.add_argument('--model', type=Path, default=DEFAULT_CHECKPOINT, help=text)


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:n (default: auto)')
    parser.add_argument('--threads', type=int, help='CPU threads; default: as torch finds')


if __name__ == '__main__':
    sys.exit(main())
