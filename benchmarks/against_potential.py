"""Compare networks with relaxations by interatomic potentials from the same starts: errors and processor time.

    python -m benchmarks.against_potential pnictides.npz substitution.npz --output against
    python -m benchmarks.against_potential pnictides.npz --output against --models default new.pt --count 200

Needs the potentials (`pip install '.[mlip]'`). The data sets are those that `e3relax data` writes. Of the test split of
each some pairs of small crystals are drawn. A potential relaxes what moved in the pair from the unrelaxed crystal, in
batches where it can, until the bounds of `e3relax predict --pre-relaxer`; a network predicts the same crystals in one
pass; both keep the symmetry of the start. Relaxations are kept in the folder of --output: the command goes on where it
was stopped, and measures other models on them. Give --threads 1 where processor time is to be compared. Writes Markdown
to standard output.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.crystals.datasets.pairs_file import read_different_pairs
from aiida_e3relax.crystals.freedom.pairs import scaled
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.gnn.checkpoints import DEFAULT_CHECKPOINT
from aiida_e3relax.gnn.checkpoints.checkpoint import load_checkpoint
from aiida_e3relax.gnn.device import prepare_device
from aiida_e3relax.gnn.prediction.settings import PotentialSettings
from benchmarks.judging import MEASURES, check_judges, errors, judged, network, relaxations, with_moves

STEPS = PotentialSettings('any', start='input')
"""When potentials stop."""

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
        print(markdown(f'{path.stem}, {options.split}, {len(drawn)} pairs', list(rows_of(drawn, options, device))))
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


def rows_of(pairs: Pairs, options: argparse.Namespace, device: torch.device) -> Iterator[dict[str, Any]]:
    """Yield the rows of the Dummy, of each potential, and of each model with the Dummy at the volumes it predicts."""
    yield {'start': 'Dummy', **errors(pairs, pairs.unrelaxed)}
    for name in options.potentials:
        relaxed, told, seconds = relaxations(pairs, name, options.output, device)
        yield {'start': name, **judged(pairs, relaxed, told), 'CPU-s each': seconds / len(pairs)}
    for model in options.models:
        checkpoint = load_checkpoint(DEFAULT_CHECKPOINT if model == DEFAULT else model)
        network(checkpoint, pairs.select([0]), device)  # what the first use sets up
        start = time.process_time()
        predicted, told = network(checkpoint, pairs, device)
        seconds = time.process_time() - start
        at_volume = scaled(with_moves(pairs), predicted.volumes)
        yield {'start': f'Dummy at the volume of {model}', **errors(pairs, at_volume)}
        yield {'start': model, **judged(pairs, predicted, told), 'CPU-s each': seconds / len(pairs)}


def markdown(title: str, rows: list[dict[str, Any]]) -> str:
    """Return the table: means, medians in brackets."""
    counts = ('failed', 'not converged')
    lines = [f'| {title} | {" | ".join([*MEASURES, *counts, "CPU-s each"])} |', '|---' * (len(MEASURES) + 4) + '|']
    for row in rows:
        cells = [f'{mean:.3g} ({median:.3g})' for mean, median in (row[name] for name in MEASURES)]
        cells += [str(row.get(name, '')) for name in counts]
        cells.append(f'{row["CPU-s each"]:.3g}' if 'CPU-s each' in row else '')
        lines.append(f'| {row["start"]} | {" | ".join(cells)} |')
    return '\n'.join([*lines, ''])


if __name__ == '__main__':
    main()
