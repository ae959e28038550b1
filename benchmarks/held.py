"""Measure what a network gains by being told what may not move, against a projection of what it predicts freely.

    python benchmarks/held.py slabs.npz

The files are those that `e3relax data` writes, of pairs with fixed atoms or cells. Their test split is predicted (all
pairs, where there is none) in two ways: *held*, the network keeps what is fixed in every layer, and *projected*, it
predicts as if all could move, and what may not is taken out afterwards. In both the prediction is restricted to what
may move, as in chains. Prints the errors of the coordinates that may move, beside those of the unrelaxed crystals.
"""

from __future__ import annotations

import argparse
import datetime
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from aiida_e3relax.crystals.datasets.pairs_file import read_pairs
from aiida_e3relax.crystals.freedom.freedom import Freedom, Moves, fixed_coordinates
from aiida_e3relax.crystals.freedom.projection import restrict
from aiida_e3relax.crystals.metrics import movable_coordinate_mae
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.gnn.checkpoints import DEFAULT_CHECKPOINT
from aiida_e3relax.gnn.checkpoints.checkpoint import load_checkpoint
from aiida_e3relax.gnn.engine.accelerate import accelerate
from aiida_e3relax.gnn.prediction.freedom import kinds_of
from aiida_e3relax.gnn.prediction.predict import Predictions, predict


def main() -> None:
    """Measure every file and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('pairs', nargs='+', type=Path)
    parser.add_argument('--model', type=Path, default=DEFAULT_CHECKPOINT)
    parser.add_argument('--all', action='store_true', help='take all pairs, not the test split alone')
    options = parser.parse_args()
    checkpoint = load_checkpoint(options.model)
    network = accelerate(checkpoint.model)
    print('| data, pairs | | mean A | median A | better than projected |')
    print('|---' * 5 + '|')
    for path in options.pairs:
        pairs = read_pairs(path)
        test = pairs.of_split('test')
        pairs = test if len(test) and not options.all else pairs
        masks = {'projected': (None, None), 'held': (pairs.fixed, pairs.fixed_cell)}
        results = {
            name: predict(network, pairs.unrelaxed, checkpoint.elements, torch.device('cpu'), fixed=fixed)
            for name, fixed in masks.items()
        }
        print_rows(path.stem, pairs, results)
    print(
        f'\nMeasured {datetime.date.today()} on {platform.machine()}, torch {version("torch")}, {options.model.name}.'
    )


def print_rows(name: str, pairs: Pairs, results: dict[str, Predictions]) -> None:
    """Print the rows of one file: the unrelaxed crystals, and each of `results`, of what all of them predict."""
    if pairs.fixed is None:
        raise SystemExit(f'{name}: expected pairs with fixed atoms; this file has none')
    failed = set().union(*(result.faults for result in results.values()))
    sound = np.array([index for index in range(len(pairs)) if index not in failed], dtype=np.int64)
    guesses = {'unrelaxed': pairs.unrelaxed} | {way: held(pairs, of.crystals) for way, of in results.items()}
    errors: dict[str, NDArray[np.float64]] = {
        way: movable_coordinate_mae(guess, pairs.relaxed, pairs.fixed)[sound] for way, guess in guesses.items()
    }
    for way, error in errors.items():
        better = int((error < errors['projected']).sum())
        print(f'| {name}, {len(sound)} | {way} | {np.nanmean(error):.4f} | {np.nanmedian(error):.4f} | {better} |')


def held(pairs: Pairs, predicted: Crystals) -> Crystals:
    """Return `predicted` restricted to what may move in `pairs`."""
    kept = []
    for index in range(len(pairs)):
        one = pairs.select(np.array([index]))
        start, fixed = one.unrelaxed, one.fixed
        movable = np.ones_like(start.positions, dtype=bool) if fixed is None else ~fixed
        moves = Moves.POSITIONS if one.fixed_cell is not None and one.fixed_cell[0] else Moves.CELL
        freedom = Freedom(moves, fixed_coordinates(movable))
        kept.append(restrict(start, predicted.select([index]), freedom, kinds_of(start)))
    positions, cells = (np.concatenate([getattr(one, name) for one in kept]) for name in ('positions', 'cell'))
    return predicted.replace(positions, cells)


if __name__ == '__main__':
    main()
