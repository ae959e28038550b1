"""``e3relax ensemble``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from aiida_e3relax.gnn.cli.options import add_device, check_checkpoint_output, checkpoint_path

if TYPE_CHECKING:
    from aiida_e3relax.crystals.pairs import Pairs

HELP = 'make one checkpoint of several, whose mean is more accurate and whose spread says how far to trust it'

DESCRIPTION = """
Make one checkpoint of several that were trained apart, with other seeds or other data.

Its prediction is the mean of its members'. Their spread is written as the uncertainty of every structure, in A; with
--calibrate it is scaled to the errors found on pairs that no member may have been trained on. With --reference the
checkpoint holds what its members were trained on, as the network sees it: predictions then say how far a crystal is
from that, and uncertainties grow with it. A single checkpoint is taken as it is, to be given either anew.
docs/model.md says what the numbers mean.
"""


def add_to(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser('ensemble', help=HELP, description=DESCRIPTION)
    parser.add_argument(
        'checkpoints',
        nargs='+',
        type=checkpoint_path,
        metavar='CHECKPOINT',
        help='members, of one size; or one checkpoint, single or ensemble',
    )
    parser.add_argument(
        '--output', type=Path, required=True, help='the checkpoint to write (.pt), with its model card beside it'
    )
    parser.add_argument(
        '--reference',
        nargs='+',
        type=Path,
        metavar='PAIRS',
        help='training files whose split train the members were trained on',
    )
    parser.add_argument(
        '--calibrate', nargs='+', type=Path, metavar='PAIRS', help='training files that `e3relax data` wrote'
    )
    parser.add_argument(
        '--split',
        nargs='+',
        default=['val'],
        metavar='NAME',
        help='of those to calibrate on, such as val val_ood_oxides; best some whose chemistry no member was trained '
        'on (default: val)',
    )
    parser.add_argument('--half', action='store_true', help='keep the weights in half precision: half the file')
    add_device(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    import numpy as np

    from aiida_e3relax.common.errors import InputError
    from aiida_e3relax.crystals.pairs import Pairs
    from aiida_e3relax.gnn.device import prepare_device
    from aiida_e3relax.gnn.training.ensembles import calibrate, combine, copy_checkpoint
    from aiida_e3relax.gnn.training.reference_sets import add_reference_set

    pairs_files = [*(options.reference or ()), *(options.calibrate or ())]
    check_checkpoint_output(options.output, [*options.checkpoints, *pairs_files])
    alone = len(options.checkpoints) == 1 and bool(options.reference or options.calibrate)
    if alone and options.half:
        raise InputError('--half: expected several checkpoints to combine; the weights of one stay as they are')
    if 'train' in options.split:
        raise InputError('--split train: the members were trained on it, so it says nothing of their errors elsewhere')
    reference = _read(options.reference, ['train'], '--reference') if options.reference else None
    given = _read(options.calibrate, options.split, '--calibrate') if options.calibrate else None
    device = prepare_device(options.device, options.threads)
    if alone:
        checkpoint = copy_checkpoint(options.checkpoints[0], options.output)
    else:
        checkpoint = combine(options.checkpoints, options.output, options.half)
    if reference is not None:
        checkpoint = add_reference_set(options.output, reference, device)
        about = checkpoint.training['reference']
        print(f'reference set: {about["environments"]} environments of {about["crystals"]} crystals')
    if given is not None:
        known = [part for part in (reference, given.of_split('train')) if part is not None]
        pairs = given.select(np.flatnonzero(np.isin(given.split, options.split)))
        checkpoint = calibrate(options.output, pairs, device, Pairs.concatenate(known))
        _print_calibration(checkpoint.training['calibration'])
    count = sum(p.numel() for p in checkpoint.model.parameters())
    members = getattr(checkpoint.model.hyperparameters, 'members', 1)
    print(f'{options.output}: {members} member{"s"[: members - 1]}, {count:,} parameters, {checkpoint.content_hash}')
    return 0


def _read(paths: list[Path], splits: list[str], option: str) -> Pairs:
    """Return the pairs of `splits` of training files, and of `train`; raises InputError for a split that none has."""
    import numpy as np

    from aiida_e3relax.common.errors import InputError
    from aiida_e3relax.crystals.datasets.pairs_file import read_different_pairs
    from aiida_e3relax.crystals.pairs import Pairs

    pairs = Pairs.concatenate(read_different_pairs(paths))
    for split in splits:
        if split not in pairs.split:
            found = ', '.join(np.unique(pairs.split))
            raise InputError(
                f'{option} {", ".join(map(str, paths))}: no pair of the split {split}; its splits are {found}'
            )
    return pairs.select(np.flatnonzero(np.isin(pairs.split, [*splits, 'train'])))


def _print_calibration(found: dict) -> None:
    growth = found.get('growth')
    more = ''
    if growth:
        more = f' and {growth["coefficient"]:.3f} A * distance^{growth["power"]:.2f}, their squares added'
    print(f'uncertainty: {found["factor"]:.3f} times the deviation of the members{more}, from {found["pairs"]} pairs')
    if not (groups := found.get('groups')):
        return
    width = max(map(len, groups))
    print(
        f'{"":<{width}} {"pairs":>6} {"distance":>9}  error/uncertainty, median, also where the fit left the group out'
    )
    for name, row in groups.items():
        ratios = [row[f'observed_over_stated_median{end}'] for end in ('', '_left_out')]
        cells = ['-' if ratio is None else f'{ratio:.2f}' for ratio in ratios]
        print(f'{name:<{width}} {row["pairs"]:>6} {row["distance_median"]:>9.2f}  {cells[0]:>6} {cells[1]:>6}')
