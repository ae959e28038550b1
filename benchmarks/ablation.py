"""Measure what more data and each part of the network are worth: a learning curve and an ablation, at a small size.

    python benchmarks/ablation.py pnictides.npz

Every row is a model trained from scratch for the same number of steps on the training split and measured on the
validation split; test splits stay untouched. The seed of the first row is changed in the second: what is smaller than
their difference is chance. Rows that are done are read from `--output` when the command is run again. Each run has one
thread; `--jobs` of them run side by side.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import hashlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aiida_e3relax.crystals.datasets.pairs_file import pairs_hash, read_pairs
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.gnn.checkpoints.checkpoint import load_checkpoint
from aiida_e3relax.gnn.evaluation.evaluate import evaluate
from aiida_e3relax.gnn.graph.batch import CrystalBatch, Geometry
from aiida_e3relax.gnn.layers import EdgeGeometry, LatticeState, LatticeToAtoms, displaced, matrix_exponential
from aiida_e3relax.gnn.models.e3relax_h2 import E3RelaxH2
from aiida_e3relax.gnn.models.losses import LossSettings, Target
from aiida_e3relax.gnn.models.registry import MODELS
from aiida_e3relax.gnn.training.run import train
from aiida_e3relax.gnn.training.settings import TrainingSettings

MEASURES = ('coordinate_mae_A', 'cell_shape_deviation_A2', 'volume_mae_A3')


class WithoutRefinement(E3RelaxH2):
    """Every layer sees the unrelaxed geometry; the last one's changes of it are the prediction."""

    def forward(self, batch: CrystalBatch) -> list[Geometry]:
        """Return the prediction alone."""
        vectors = batch.edge_vectors(batch.fractional, batch.cell)
        n = len(batch.numbers)
        edges = EdgeGeometry.of(vectors, batch.graph.centre, batch.graph.neighbour, self.radial_basis, n)
        x = self.embedding(batch.numbers)
        v = x.new_zeros(n, 3, x.shape[1])
        lattice = LatticeState(self._lattice_scalar(batch), x.new_zeros(len(batch.n_atoms), 3, 3, x.shape[1]))
        for index, layer in enumerate(self.layers):
            x, v, lattice, displacement, strain = layer(x, v, lattice, edges, batch, first=index == 0)
        cell = batch.cell @ matrix_exponential(strain)
        return [Geometry(displaced(batch.fractional, displacement, cell, batch), cell)]


class _NothingToAtoms(LatticeToAtoms):
    def forward(self, x: Tensor, v: Tensor, lattice: LatticeState, structure_index: Tensor) -> tuple[Tensor, Tensor]:
        return x, v


class WithoutLatticeExchange(E3RelaxH2):
    """The lattice node listens to the atoms, which hear nothing of it."""

    def __init__(self, hyperparameters: E3RelaxH2.Hyperparameters):
        super().__init__(hyperparameters)
        for layer in self.layers:
            layer.lattice_to_atoms = _NothingToAtoms(hyperparameters.features)


class WithoutNearestImage(E3RelaxH2):
    """The loss takes the atoms where they are written in the cell, between 0 and 1."""

    def loss(self, batch: CrystalBatch, target: Target, settings: LossSettings) -> tuple[Tensor, Tensor]:
        """Return the loss and the errors of both kinds; the latter are those of the nearest image."""
        _, errors = super().loss(batch, target, settings)
        total = errors.new_zeros(len(errors))
        shift = torch.floor(batch.fractional)
        for geometry in self(batch):
            plain = geometry.fractional - shift - target.fractional % 1
            difference = torch.einsum('ac,acx->ax', plain, target.cell[batch.structure_index])
            total = total + batch.mean_over_atoms(difference.abs().mean(dim=1))
            total = total + settings.cell_weight * (geometry.cell - target.cell).abs().mean(dim=(1, 2))
        return total, errors


REDUCED: dict[str, Callable[[Any], E3RelaxH2]] = {
    'without refinement': WithoutRefinement,
    'without lattice exchange': WithoutLatticeExchange,
    'without nearest image': WithoutNearestImage,
}

PUBLISHED = {'layers': 3, 'radial_functions': 32, 'radial_cutoff': 6.0, 'max_neighbours': 25}
"""The published form at our sizes; it counts the atom itself among its neighbours."""

ROWS: dict[str, dict[str, Any]] = {
    'E3Relax-H2, symmetric': {},
    'another seed': {'seed': 1},
    '1/2 of the training pairs': {'share': 1 / 2},
    '1/4 of the training pairs': {'share': 1 / 4},
    '1/8 of the training pairs': {'share': 1 / 8},
    'no high-degree gate (E3Relax, symmetric)': {'architecture': 'e3relax'},
    'no refinement': {'architecture': 'without refinement'},
    'no lattice exchange': {'architecture': 'without lattice exchange'},
    'loss without nearest image': {'architecture': 'without nearest image'},
    'published, lattice update on rows': {
        'architecture': 'e3relax-h2-published',
        'hyperparameters': PUBLISHED | {'lattice_update': 'rows'},
    },
    'published, lattice update as the authors have it': {
        'architecture': 'e3relax-h2-published',
        'hyperparameters': PUBLISHED | {'lattice_update': 'published'},
    },
}


def main() -> None:
    """Train, measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('pairs', nargs='+', type=Path, help='training files that `e3relax data` wrote')
    parser.add_argument('--features', type=int, default=64)
    parser.add_argument('--steps', type=int, default=2000)
    parser.add_argument('--jobs', type=int, default=1)
    parser.add_argument('--output', type=Path, default=Path('ablation'), help='folder of the runs')
    options = parser.parse_args()
    pairs = Pairs.concatenate(read_pairs(path) for path in options.pairs)
    with ProcessPoolExecutor(options.jobs) as pool:
        jobs = {
            name: pool.submit(measured, name, variant, pairs, options.features, options.steps, options.output)
            for name, variant in ROWS.items()
        }
        rows = {name: job.result() for name, job in jobs.items()}
    for source in rows[next(iter(ROWS))]['measures']:
        print(f'\n| {source}, validation split | coordinates A | cell shape A^2 | volume A^3 | ms a step |')
        print('|---|---|---|---|---|')
        for name, row in rows.items():
            figures = [
                f'{row["measures"][source][f"{m}_mean"]:.3g} ({row["measures"][source][f"{m}_median"]:.3g})'
                for m in MEASURES
            ]
            print(f'| {name} | {" | ".join(figures)} | {row["ms_a_step"]:.0f} |')
    print(
        f'\nAligned frame, mean (median). {options.steps} steps of 32, {options.features} features, 3 layers. '
        f'Measured {datetime.datetime.now().date()} on {platform.machine()} with {os.cpu_count()} cores, '
        f'torch {torch.__version__}.'
    )


def measured(
    name: str, variant: Mapping[str, Any], pairs: Pairs, features: int, steps: int, output: Path
) -> dict[str, Any]:
    """Return the figures of one row, trained now or earlier with the same data and settings."""
    torch.set_num_threads(1)
    MODELS.update(REDUCED)
    share = variant.get('share', 1.0)
    settings = TrainingSettings(
        architecture=variant.get('architecture', 'e3relax-h2'),
        hyperparameters={'features': features, **variant.get('hyperparameters', {})},
        steps=steps,
        validate_every=steps,
        seed=variant.get('seed', 0),
    )
    chosen = with_share(pairs, share)
    content = json.dumps([pairs_hash(chosen), dataclasses.asdict(settings)])
    result = output / f'{hashlib.sha256(content.encode()).hexdigest()[:12]}.json'
    if result.is_file():
        return json.loads(result.read_text(encoding='utf-8'))
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        train(chosen, settings, Path(folder), torch.device('cpu'))
        milliseconds = 1e3 * (time.process_time() - start) / steps
        checkpoint = load_checkpoint(Path(folder) / 'best.pt')
    rows = evaluate(checkpoint, pairs.of_split('val'), torch.device('cpu'), with_matches=False)
    row = {
        'name': name,
        'ms_a_step': milliseconds,
        'measures': {r['data']: r for r in rows if r['frame'] == 'aligned' and r['of'] == 'model'},
    }
    output.mkdir(parents=True, exist_ok=True)
    result.write_text(json.dumps(row), encoding='utf-8')
    return row


def with_share(pairs: Pairs, share: float) -> Pairs:
    """Return `pairs` with a random `share` of those to train on; a smaller share is part of a larger one."""
    training = np.random.default_rng(0).permutation(np.flatnonzero(pairs.split == 'train'))
    rest = np.flatnonzero(pairs.split != 'train')
    return pairs.select(np.sort(np.concatenate([training[: round(share * len(training))], rest])))


if __name__ == '__main__':
    main()
