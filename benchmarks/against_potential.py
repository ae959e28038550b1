"""Compare networks with relaxations by interatomic potentials from the same starts: errors and processor time.

    python -m benchmarks.against_potential pnictides.npz substitution.npz --output against
    python -m benchmarks.against_potential pnictides.npz --output against --models default new.pt --count 200

Needs the potentials (`pip install '.[mlip]'`). The data sets are those that `e3relax data` writes. Of the test split of
each some pairs of small crystals are drawn. A potential relaxes what moved in the pair from the unrelaxed crystal, in
batches where it can, until the bounds of `e3relax predict --potential`; a network predicts the same crystals in one
pass; both keep the symmetry of the start. Relaxations are kept in the folder of --output: the command goes on where it
was stopped, and measures other models on them. The second table of a data set has the errors where the network is less
and less sure: a bound of the guard would have to turn to what is better there. Give --threads 1 where processor time is
to be compared. Writes Markdown to standard output.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import itertools
import platform
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.crystals.datasets.pairs_file import read_different_pairs
from aiida_e3relax.crystals.freedom.pairs import scaled
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.gnn.checkpoints import DEFAULT_CHECKPOINT
from aiida_e3relax.gnn.checkpoints.checkpoint import load_checkpoint
from aiida_e3relax.gnn.device import prepare_device
from aiida_e3relax.gnn.prediction.settings import PotentialSettings
from benchmarks.judging import (
    MEASURES,
    check_judges,
    errors,
    errors_of_each,
    judged,
    network,
    relaxations,
    with_moves,
)

STEPS = PotentialSettings('any', start='input')
"""When potentials stop."""

BONDS = MEASURES[1]
UNCERTAINTIES = (0, 0.02, 0.05, 0.1, 0.2, 0.4, np.inf)
"""Where bins of the second table begin."""

DEFAULT = 'default'
"""The word for the model that comes with the package."""


def main() -> None:
    """Relax, predict, measure and print a table for each data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('pairs', nargs='+', type=Path)
    parser.add_argument('--models', nargs='+', default=[DEFAULT], help='checkpoints (default: the one of the package)')
    parser.add_argument('--potentials', nargs='*', default=['chgnet'], help='(default: chgnet)')
    parser.add_argument('--split', default='test', help='(default: %(default)s)')
    parser.add_argument('--count', type=int, default=40, help='pairs to draw of each set (default: %(default)s)')
    parser.add_argument('--most-atoms', type=int, default=20, help='in a crystal (default: %(default)s)')
    parser.add_argument('--output', type=Path, required=True, help='folder of the relaxations')
    parser.add_argument('--device', default='auto')
    parser.add_argument('--threads', type=int)
    options = parser.parse_args()
    device = prepare_device(options.device, options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    for path, pairs in zip(options.pairs, read_different_pairs(options.pairs), strict=True):
        drawn = draw(pairs.of_split(options.split), options.count, options.most_atoms)
        try:
            check_judges(options.potentials, drawn)
        except InputError as error:
            parser.error(f'{path}: {error}')
        starts = starts_of(drawn, options, device)
        print(markdown(f'{path.stem}, {options.split}, {len(drawn)} pairs', drawn, starts))
        for model in options.models:
            print(bins(drawn, starts, model))
    packages = ', '.join(f'{name} {version(name)}' for name in ('torch', 'aiida-e3relax'))
    print(
        f'Aligned frame, mean (median); crystals of up to {options.most_atoms} atoms. Potentials keep the symmetry of '
        f'the start, to {STEPS.force_max_eV_per_A:g} eV/A and {STEPS.stress_max_kB:g} kB in at most {STEPS.steps} '
        'steps; what fails counts as it began. Measured '
        f'{datetime.datetime.now(datetime.UTC).date()} on {platform.machine()}, {device.type}, {packages}.'
    )


def draw(pairs: Pairs, count: int, most_atoms: int) -> Pairs:
    """Return `count` pairs of small crystals, the first ones of the same order whatever the count."""
    small = np.flatnonzero(pairs.unrelaxed.n_atoms <= most_atoms)
    return pairs.select(np.random.default_rng(0).permutation(small)[:count])


@dataclasses.dataclass(frozen=True)
class Start:
    """Where VASP could start: the crystals, what is told of each, and CPU seconds; None of what costs nothing."""

    crystals: Crystals
    told: list[dict[str, Any]] | None = None
    seconds: float | None = None

    def row(self, pairs: Pairs) -> dict[str, Any]:
        """Return the errors."""
        if self.told is None or self.seconds is None:
            return errors(pairs, self.crystals)
        return {**judged(pairs, self.crystals, self.told), 'CPU-s each': self.seconds / len(pairs)}


def starts_of(pairs: Pairs, options: argparse.Namespace, device: torch.device) -> dict[str, Start]:
    """Return the Dummy, each potential, and each model with the Dummy at the volumes it predicts, by name."""
    starts = {'Dummy': Start(pairs.unrelaxed)}
    for name in options.potentials:
        starts[name] = Start(*relaxations(pairs, name, options.output, device))
    for model in options.models:
        checkpoint = load_checkpoint(DEFAULT_CHECKPOINT if model == DEFAULT else model)
        network(checkpoint, pairs.select([0]), device)  # what the first use sets up
        start = time.process_time()
        predicted, told = network(checkpoint, pairs, device)
        seconds = time.process_time() - start
        starts[f'Dummy at the volume of {model}'] = Start(scaled(with_moves(pairs), predicted.volumes))
        starts[model] = Start(predicted, told, seconds)
    return starts


def markdown(title: str, pairs: Pairs, starts: Mapping[str, Start]) -> str:
    """Return the table: means, medians in brackets."""
    counts = ('failed', 'not converged')
    lines = [f'| {title} | {" | ".join([*MEASURES, *counts, "CPU-s each"])} |', '|---' * (len(MEASURES) + 4) + '|']
    for start, row in ((name, start.row(pairs)) for name, start in starts.items()):
        cells = [f'{mean:.3g} ({median:.3g})' for mean, median in (row[name] for name in MEASURES)]
        cells += [str(row.get(name, '')) for name in counts]
        cells.append(f'{row["CPU-s each"]:.3g}' if 'CPU-s each' in row else '')
        lines.append(f'| {start} | {" | ".join(cells)} |')
    return '\n'.join([*lines, ''])


def bins(pairs: Pairs, starts: Mapping[str, Start], model: str) -> str:
    """Return mean errors of bonds, in A, where `model` is less and less sure; empty of one that states nothing."""
    stated = np.array([row.get('uncertainty_A', np.nan) for row in starts[model].told or []], dtype=float)
    if not np.isfinite(stated).any():
        return ''
    bonds = {name: errors_of_each(pairs, start.crystals)[BONDS] for name, start in starts.items()}
    lines = [
        f'| bonds A, by the uncertainty of {model} | pairs | {" | ".join(bonds)} |',
        '|---' * (len(bonds) + 2) + '|',
    ]
    for least, most in itertools.pairwise(UNCERTAINTIES):
        chosen = (stated >= least) & (stated < most)
        if chosen.any():
            upper = f'to {most:g}' if np.isfinite(most) else 'and more'
            means = [f'{np.nanmean(values[chosen]):.3f}' for values in bonds.values()]
            lines.append(f'| {least:g} {upper} | {chosen.sum()} | {" | ".join(means)} |')
    return '\n'.join([*lines, ''])


if __name__ == '__main__':
    main()
