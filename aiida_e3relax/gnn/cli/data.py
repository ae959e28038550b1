"""``e3relax data``."""

from __future__ import annotations

import argparse
import csv
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aiida_e3relax.gnn.cli.options import add_seed, check_training_file_output
from aiida_e3relax.gnn.data.splits import METHODS

if TYPE_CHECKING:
    from aiida_e3relax.gnn.data.build import BuildOptions, BuiltData, Rejection

SHOWN_REJECTIONS = 10

_REPAIRS = {
    'reorder': 'reject pairs whose sites are ordered differently',
    'mirror': 'reject pairs whose cells have opposite handedness',
    'drift': 'leave the common shift of all atoms in the relaxed crystal',
    'rotation': 'leave the rotation between the frames of the two crystals',
}


def add_to(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser(
        'data',
        help='make a training file of pairs of unrelaxed and relaxed crystals',
        description='Gather pairs of unrelaxed and relaxed crystals from one source or more, put them right, look for '
        'repeats, split them, and write one training file. docs/data.md describes sources, repairs and options.',
    )
    parser.add_argument(
        'sources',
        nargs='+',
        metavar='SOURCE',
        help="folder in the papers' layout; folder of VASP runs; trajectory or folder of them; UNRELAXED::RELAXED, "
        'two files or databases that ASE reads; .npz; MPF pickle',
    )
    parser.add_argument('--output', type=Path, required=True, metavar='NAME.npz', help='the training file to write')
    parser.add_argument('--name', help='name of the data set; default: that of each source')
    parser.add_argument('--licence', help='licence of the data, for the data card')
    parser.add_argument('--citation', help='what to cite, for the data card')
    parser.add_argument('--summary-png', type=Path, metavar='FILE', help='also draw the data set')
    reading = parser.add_argument_group('reading')
    reading.add_argument('--match', metavar='KEY', help='key that matches the rows of two files')
    reading.add_argument('--allow-pickle', action='store_true', help='load pickles, which may run any code')
    reading.add_argument('--min-atoms', type=int, default=1, help='reject smaller cells')
    reading.add_argument('--max-atoms', type=int, help='reject larger cells')
    reading.add_argument(
        '--fixed-cell', action='store_true', help='no relaxation changed the cell: reject pairs in which it did'
    )
    splitting = parser.add_argument_group('splitting')
    splitting.add_argument(
        '--split',
        type=_split_method,
        metavar='HOW',
        help=f'{", ".join(METHODS)}, or a .csv with the columns `label` and `split`; default: as-given where the '
        'sources give a split for every pair, else random',
    )
    add_seed(splitting)
    splitting.add_argument(
        '--fractions', type=float, nargs=3, default=(0.8, 0.1, 0.1), metavar=('TRAIN', 'VAL', 'TEST')
    )
    repairing = parser.add_argument_group('repairing')
    for name, text in _REPAIRS.items():
        repairing.add_argument(f'--no-{name}', action='store_true', help=text)
    repairing.add_argument(
        '--match-sites',
        action='store_true',
        help='bring sites of one species into another order, too, where each has one clearly nearest partner',
    )
    repeats = parser.add_argument_group('repeated crystals')
    repeats.add_argument('--no-repeats', action='store_true', help='do not look for them: saves minutes')
    repeats.add_argument('--drop-duplicates', action='store_true', help='keep one of equal pairs in a split')
    repeats.add_argument(
        '--drop-leaks', action='store_true', help='drop pairs whose relaxed crystal is in a later split, too'
    )
    parser.set_defaults(run=_run)


def _split_method(text: str) -> str:
    """Return a method of `METHODS`, or the path of a table."""
    if text not in METHODS and not text.endswith('.csv'):
        raise argparse.ArgumentTypeError(f'expected {", ".join(METHODS)}, or a .csv file, found {text!r}')
    return text


def _run(options: argparse.Namespace) -> int:
    from aiida_e3relax.crystals.datasets.pairs_file import write_pairs
    from aiida_e3relax.gnn.data.build import build
    from aiida_e3relax.gnn.data.card import data_card, write_card_beside
    from aiida_e3relax.gnn.data.sources.base import SourceOptions
    from aiida_e3relax.gnn.data.sources.registry import open_source
    from aiida_e3relax.gnn.data.split_table import with_splits_of
    from aiida_e3relax.gnn.data.summary import text

    settings = _settings(options)
    settings.check()
    _check_outputs(options)
    sources = [open_source(spec, SourceOptions(options.allow_pickle, options.match)) for spec in options.sources]
    if options.split and options.split not in METHODS:
        sources = with_splits_of(Path(options.split), sources)
    for source in sources:
        print(f'{source.path}: {source.kind}, {len(source.candidates)} pairs', *source.notes, sep='; ')
    data = build(sources, settings, options.name)
    card = data_card(data, sources, settings, options.licence, options.citation)
    write_pairs(options.output, data.pairs, card)
    beside = write_card_beside(options.output, card)
    print(text(card['summary']))
    print(_steps(data))
    _report_rejections(data.rejections, options.output)
    if options.summary_png:
        from aiida_e3relax.gnn.data.plot import plot_pairs

        plot_pairs(data.pairs, options.summary_png)
    print(f'wrote {options.output} and {beside.name}' + (f' and {options.summary_png}' if options.summary_png else ''))
    return 0


def _settings(options: argparse.Namespace) -> BuildOptions:
    from aiida_e3relax.gnn.data.build import BuildOptions
    from aiida_e3relax.gnn.data.repair import RepairOptions

    return BuildOptions(
        repair=RepairOptions(
            **{name: not getattr(options, f'no_{name}') for name in _REPAIRS}, match_sites=options.match_sites
        ),
        split=options.split if options.split in (None, *METHODS) else 'as-given',
        fractions=tuple(options.fractions),
        seed=options.seed,
        find_repeats=not options.no_repeats,
        drop_duplicates=options.drop_duplicates,
        drop_leaks=options.drop_leaks,
        atoms_min=options.min_atoms,
        atoms_max=options.max_atoms,
        fixed_cell=options.fixed_cell,
    )


def _check_outputs(options: argparse.Namespace) -> None:
    """Raise InputError for outputs that cannot be written or would replace inputs, before anything is read."""
    from aiida_e3relax.gnn.data.sources.two_files import SEPARATOR

    inputs = [Path(part) for source in options.sources for part in source.split(SEPARATOR)]
    if options.split not in (None, *METHODS):
        inputs.append(Path(options.split))
    others = {'--summary-png': options.summary_png, 'the rejections beside --output,': _rejected_path(options.output)}
    check_training_file_output(options.output, inputs, others)
    if options.summary_png:
        from aiida_e3relax.common.figures import check_figure

        check_figure(options.summary_png)


def _steps(data: BuiltData) -> str:
    """Return what was repaired, found and split, as text."""
    lines = ['repaired: ' + ', '.join(f'{step} {count}' for step, count in data.repairs.items())]
    if data.repeats:
        lines.append('repeated crystals: ' + ', '.join(f'{what} {count}' for what, count in data.repeats.items()))
    lines += [f'note: {note}: {count} pairs' for note, count in data.notes.items()]
    return '\n'.join([*lines, f'split: {data.split}'])


def _rejected_path(output: Path) -> Path:
    """Return where the rejected pairs are listed."""
    return output.with_suffix('.rejected.csv')


def _report_rejections(rejections: Sequence[Rejection], output: Path) -> None:
    """Print the first rejected pairs, and write all of them to a CSV file beside the output."""
    path = _rejected_path(output)
    path.unlink(missing_ok=True)
    if not rejections:
        return
    with path.open('w', newline='', encoding='utf-8') as handle:
        writer = csv.writer(handle)
        writer.writerow(['source', 'label', 'reason'])
        writer.writerows([r.source, r.label, r.reason] for r in rejections)
    kinds = Counter(rejection.kind for rejection in rejections).most_common()
    print(f'rejected {len(rejections)} pairs: ' + ', '.join(f'{kind} {count}' for kind, count in kinds))
    print(f'the first of them; all in {path}:', file=sys.stderr)
    for rejection in rejections[:SHOWN_REJECTIONS]:
        print(f'  {rejection.label}: {rejection.reason}', file=sys.stderr)
