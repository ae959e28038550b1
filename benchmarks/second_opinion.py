"""Measure what a potential's second opinion on predictions is worth: the tables of docs/model.md.

    python benchmarks/second_opinion.py pnictides.npz substitution.npz

Needs CHGNet (`pip install '.[mlip]'`). The data sets are those that `e3relax data` writes. Of each val split some pairs
are drawn and predicted. First table: how often the potential says that a prediction lies higher in energy than its
unrelaxed crystal, by how much, and how often it is right, which is to say that the prediction is further from the
relaxed crystal than the unrelaxed one is. Second table: what steps of the potential do to the predictions.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aiida_e3relax.common.progress import ProgressLine
from aiida_e3relax.crystals.datasets.pairs_file import read_pairs
from aiida_e3relax.crystals.metrics import bond_length_mae, coordinate_mae, volume_error
from aiida_e3relax.crystals.pairs import Pairs, aligned
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.gnn.checkpoints import DEFAULT_CHECKPOINT
from aiida_e3relax.gnn.checkpoints.checkpoint import load_checkpoint
from aiida_e3relax.gnn.engine.accelerate import accelerate
from aiida_e3relax.gnn.evaluation.evaluate import bonds_of
from aiida_e3relax.gnn.potentials.registry import load_potential
from aiida_e3relax.gnn.prediction.freedom import PredictionFreedom
from aiida_e3relax.gnn.prediction.pre_relaxation import PreRelaxation
from aiida_e3relax.gnn.prediction.predict import predict
from aiida_e3relax.gnn.prediction.settings import PotentialSettings

RISES = (0.0, 0.01, 0.03, 0.1, 0.3)
"""Bounds on the rise of the energy in the first table, in eV/atom."""


@dataclasses.dataclass(frozen=True)
class Errors:
    """Errors of crystals against the relaxed ones, ``(S,)`` each: coordinates and bonds in A, volume in A^3."""

    coordinates: NDArray[np.float64]
    bonds: NDArray[np.float64]
    volume: NDArray[np.float64]

    @staticmethod
    def of(crystals: Crystals, pairs: Pairs) -> Errors:
        """Measure `crystals`, guesses for the relaxed ones of `pairs`."""
        target = aligned(pairs).relaxed.with_centroids_of(pairs.unrelaxed)
        return Errors(
            coordinate_mae(crystals.with_centroids_of(pairs.unrelaxed), target),
            bond_length_mae(crystals, target, bonds_of(pairs.unrelaxed)),
            volume_error(crystals, target),
        )

    def cells(self, chosen: NDArray[np.bool_]) -> list[str]:
        """Return mean (median) of each error, for a table."""
        return [
            f'{values[chosen].mean():.3f} ({np.median(values[chosen]):.3f})'
            for values in (self.coordinates, self.bonds, self.volume)
        ]


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('pairs', nargs='+', type=Path)
    parser.add_argument('--model', type=Path, default=DEFAULT_CHECKPOINT)
    parser.add_argument('--count', type=int, default=200, help='pairs of each set (default: %(default)s)')
    parser.add_argument('--steps', type=int, default=10, help='in the second table (default: %(default)s)')
    parser.add_argument('--stepped', type=int, default=60, help='pairs of each set there (default: %(default)s)')
    options = parser.parse_args()
    checkpoint = load_checkpoint(options.model)
    network, potential = accelerate(checkpoint.model), load_potential('chgnet', torch.device('cpu'))
    judged, stepped = [], []
    for path in options.pairs:
        pairs = read_pairs(path).of_split('val')
        drawn = np.random.default_rng(0).permutation(len(pairs))[: options.count]
        pairs = pairs.select(drawn)
        predicted = predict(network, pairs.unrelaxed, checkpoint.elements, torch.device('cpu')).crystals
        judged += judge(
            path.stem, pairs, predicted, PreRelaxation(potential, PotentialSettings(potential.name, steps=0))
        )
        few = np.arange(min(options.stepped, len(pairs)))
        steps = PreRelaxation(potential, PotentialSettings(potential.name, steps=options.steps))
        stepped += improve(path.stem, pairs.select(few), predicted.select(few), steps)
    print('| data | energy rises by more than eV/atom | pairs % | bonds worse % of them | of the others % |')
    print('\n'.join(['|---' * 5 + '|', *judged]))
    print('\n| data | | coordinates A | bonds A | volume A^3 | largest force eV/A, by it | s each |')
    print('\n'.join(['|---' * 7 + '|', *stepped]))
    print(
        f'\nMeasured {datetime.datetime.now(datetime.UTC).date()} on {platform.machine()}, '
        f'torch {version("torch")}, chgnet {version("chgnet")}.'
    )


def consult(opinion: PreRelaxation, pairs: Pairs, predicted: Crystals) -> tuple[Crystals, dict[int, dict[str, Any]]]:
    """Return where the potential takes the predictions, and what it says of each."""
    free = PredictionFreedom(None, pairs.unrelaxed, [None] * len(pairs))
    line = ProgressLine('relaxing', len(pairs))
    improved, opinions, _ = opinion.relax(pairs.unrelaxed, predicted, range(len(pairs)), free, line)
    line.close()
    return improved, opinions


def judge(name: str, pairs: Pairs, predicted: Crystals, opinion: PreRelaxation) -> list[str]:
    """Return the rows of the first table for one data set."""
    _, opinions = consult(opinion, pairs, predicted)
    known = np.array([i for i, told in opinions.items() if told.get('energy_input_eV_per_atom') is not None])
    rise = np.array(
        [opinions[i]['energy_network_eV_per_atom'] - opinions[i]['energy_input_eV_per_atom'] for i in known]
    )
    worse = (Errors.of(predicted, pairs).bonds > Errors.of(pairs.unrelaxed, pairs).bonds)[known]
    rows = []
    for bound in RISES:
        flagged = rise > bound
        right = f'{100 * worse[flagged].mean():.0f}' if flagged.any() else '-'
        share = f'{100 * flagged.mean():.1f}'
        rows.append(f'| {name}, {len(known)} | {bound:g} | {share} | {right} | {100 * worse[~flagged].mean():.0f} |')
    return rows


def improve(name: str, pairs: Pairs, predicted: Crystals, opinion: PreRelaxation) -> list[str]:
    """Return the rows of the second table for one data set."""
    start = time.process_time()
    improved, opinions = consult(opinion, pairs, predicted)
    seconds = (time.process_time() - start) / len(pairs)
    known = np.array([opinions[i].get('energy_input_eV_per_atom') is not None for i in range(len(pairs))])
    rows = []
    for title, key, crystals in (
        ('unrelaxed', 'input', pairs.unrelaxed),
        ('network', 'network', predicted),
        (f'{opinion.settings.steps} steps more', 'prediction', improved),
    ):
        forces = [opinions[i][f'max_force_{key}_eV_per_A'] for i in np.flatnonzero(known).tolist()]
        cells = [*Errors.of(crystals, pairs).cells(known), f'{np.mean(forces):.2f} ({np.median(forces):.2f})']
        rows.append(f'| {name}, {known.sum()} | {title} | {" | ".join(cells)} | {seconds:.1f} |')
    return rows


if __name__ == '__main__':
    main()
