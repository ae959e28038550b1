"""``e3relax evaluate``."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.common.output_files import check_outputs, is_same_file
from aiida_e3relax.gnn.checkpoints import DEFAULT_CHECKPOINT
from aiida_e3relax.gnn.cli.options import add_device, checkpoint_path


def add_to(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser(
        'evaluate',
        help="the papers' measures of models on one split, beside doing nothing",
        description='Measure models on one split of the data, structure by structure, beside the Dummy (the input) and '
        'the input scaled to the volume that each model predicts. docs/data.md defines the measures.',
    )
    parser.add_argument('pairs', nargs='+', type=Path, help='training files that `e3relax data` wrote')
    parser.add_argument(
        '--model',
        type=checkpoint_path,
        nargs='+',
        default=[DEFAULT_CHECKPOINT],
        help='one checkpoint or more; default: the one that comes with the package',
    )
    parser.add_argument('--split', default='test', metavar='NAME', help='such as val, test_ood_ads; default: test')
    parser.add_argument('--no-match', action='store_true', help='leave out the match rate, which takes longest')
    parser.add_argument('--json', type=Path, help='write the tables, by size and by element too')
    parser.add_argument('--csv', type=Path, help='write one line a structure')
    parser.add_argument('--figure', type=Path, help='draw distributions, errors by size, element and uncertainty')
    add_device(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    import numpy as np

    from aiida_e3relax.crystals.datasets.pairs_file import read_different_pairs
    from aiida_e3relax.crystals.pairs import Pairs
    from aiida_e3relax.gnn.checkpoints.checkpoint import load_checkpoint
    from aiida_e3relax.gnn.device import prepare_device
    from aiida_e3relax.gnn.evaluation.evaluate import GROUPS, measure
    from aiida_e3relax.gnn.evaluation.report import group_table, table, write_csv, write_json

    _check_outputs(options)
    device = prepare_device(options.device, options.threads)
    models = {name: load_checkpoint(path) for name, path in _names(options.model).items()}
    files = read_different_pairs(options.pairs)
    pairs = Pairs.concatenate(file.of_split(options.split) for file in files)
    if not len(pairs):
        found = ', '.join(np.unique(np.concatenate([file.split for file in files])))
        raise InputError(
            f'{", ".join(map(str, options.pairs))}: no pair of the split {options.split!r}; its splits are {found}'
        )
    measured = measure(models, pairs, device, with_matches=not options.no_match)
    print(table([m.row() for m in measured]))
    for group in GROUPS:
        if told := group_table(measured, group):
            print('', told, sep='\n')
    if options.json:
        hashes = {name: checkpoint.content_hash for name, checkpoint in models.items()}
        write_json(options.json, measured, {'models': hashes, 'split': options.split})
    if options.csv:
        write_csv(options.csv, measured)
    if options.figure:
        from aiida_e3relax.gnn.evaluation.plot import plot_measured

        plot_measured(measured, options.figure)
    return 0


def _check_outputs(options: argparse.Namespace) -> None:
    """Raise InputError for outputs that cannot be written or would replace inputs, before anything is computed."""
    outputs = {'--json': options.json, '--csv': options.csv, '--figure': options.figure}
    check_outputs(outputs, [*options.pairs, *options.model], takes_special=True)
    if options.figure:
        from aiida_e3relax.common.figures import check_figure

        check_figure(options.figure)


def _names(paths: list[Path]) -> dict[str, Path]:
    """Return a short name for each checkpoint: ``model`` for one, else that of its file, with its folder if needed."""
    if len(paths) == 1:
        return {'model': paths[0]}
    names: dict[str, Path] = {}
    for first, second in itertools.combinations(paths, 2):
        if is_same_file(first, second):
            raise InputError(f'--model: {second} stands there twice: leave one out')
    for path in paths:
        alike = [p for p in paths if p.stem == path.stem]
        name = path.stem if len(alike) == 1 else f'{path.resolve().parent.name}/{path.stem}'
        if name in names:
            raise InputError(
                f'--model: {path} and {names[name]} have the same name {name!r}; rename one folder or file'
            )
        names[name] = path
    return names
