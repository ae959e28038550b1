"""Measure what balanced batches and mixed precision do to training.

    python benchmarks/training.py pnictides.npz
    python benchmarks/training.py pnictides.npz --device cuda --features 128

The runs take their steps in turn, so that what else the machine does falls on all alike. The second seed shows how much
chance there is in the errors. On a CPU the time is that of the processor, on a GPU that of the clock.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from aiida_e3relax.crystals.datasets.pairs_file import read_pairs
from aiida_e3relax.gnn.device import device_name, prepare_device
from aiida_e3relax.gnn.training.batches import validation_errors
from aiida_e3relax.gnn.training.run import TrainingRun
from aiida_e3relax.gnn.training.settings import read_settings

VARIANTS = {
    'float32': {},
    'float32, another seed': {'seed': 1},
    'balanced batches': {'balanced_batches': True},
    'bfloat16': {'precision': 'bfloat16'},
}


def main() -> None:
    """Train and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('pairs', type=Path, help='a training file that `e3relax data` wrote')
    parser.add_argument('--count', type=int, default=4000, help='pairs to train on')
    parser.add_argument('--steps', type=int, default=200)
    parser.add_argument('--features', type=int, default=64)
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--threads', type=int, default=1)
    options = parser.parse_args()
    device = prepare_device(options.device, options.threads)
    clock = time.process_time if device.type == 'cpu' else time.perf_counter
    pairs = read_pairs(options.pairs)
    training, validation = (np.flatnonzero(pairs.split == split) for split in ('train', 'val'))
    pairs = pairs.select(np.concatenate([training[: options.count], validation]))
    fixed = {'steps': options.steps, 'hyperparameters': {'features': options.features}}
    with tempfile.TemporaryDirectory() as folder:
        runs = {
            name: TrainingRun(pairs, read_settings({**fixed, **variant}, name), Path(folder) / name, device)
            for name, variant in VARIANTS.items()
        }
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(options.steps):
            for name, run in runs.items():
                start = clock()
                run.train_step()
                seconds[name].append(clock() - start)
    print('| | a step s | edges a batch | most edges | validation: coordinates A | cell A |')
    print('|---|---|---|---|---|---|')
    for name, run in runs.items():
        n_edges = run.training.n_edges.cpu().numpy()
        edges = [n_edges[run.order.of(step)].sum() for step in range(options.steps)]
        coordinates, cell = validation_errors(run.average, run.validation).tolist()
        print(
            f'| {name} | {np.median(seconds[name]):.4f} | {np.mean(edges):.0f} +- {np.std(edges):.0f} | {max(edges)} | '
            f'{coordinates:.4f} | {cell:.4f} |'
        )
    print(
        f'\n{options.steps} steps of 32 with {options.features} features. Measured {datetime.datetime.now().date()} on '
        f'{platform.machine()} with {os.cpu_count()} cores, {device_name(device)}, torch {torch.__version__}.'
    )


if __name__ == '__main__':
    main()
