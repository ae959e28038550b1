"""Time the solvers of DeepRelax's distances against a loop over crystals, and measure what rounding does to them.

    python benchmarks/distance_geometry.py
    python benchmarks/distance_geometry.py --device cuda --structures 32 512

Loop and batch both do the published recipe, 100 steps of Adam: the loop crystal by crystal with automatic
differentiation, the batch as one problem with its gradient written out. The distances are those after random
displacements of the atoms, so that the two can be compared. `likely` is the solver of the symmetric form, on the same
distances. The second table has distances that contradict each other, as predicted ones do.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import functools
import os
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aiida_e3relax.crystals.structures import make_crystals
from aiida_e3relax.gnn.device import device_name, prepare_device
from aiida_e3relax.gnn.graph.batch import CrystalBatch, make_batch
from aiida_e3relax.gnn.graph.shells import neighbour_graph
from aiida_e3relax.gnn.models.distance_geometry import (
    DistancePrediction,
    displacements_within_bounds,
    most_likely_displacements,
)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--structures', nargs='+', type=int, default=[1, 8, 32])
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--repeats', type=int, default=3, help='the fastest counts')
    options = parser.parse_args()
    device = prepare_device(options.device, options.threads)
    print('| crystals | edges | one by one s | batch s | ratio | largest difference A | likely s |')
    print('|---|---|---|---|---|---|---|')
    for count in options.structures:
        batch, vectors, prediction = problem(count, device)
        plain, expected = timed(lambda: one_by_one(batch, vectors, prediction), options.repeats)  # noqa: B023
        whole, found = timed(lambda: displacements_within_bounds(prediction, vectors, batch), options.repeats)  # noqa: B023
        likely, _ = timed(lambda: most_likely_displacements(prediction, vectors, batch), options.repeats)  # noqa: B023
        difference = float((expected - found).abs().max())
        print(
            f'| {count} | {len(vectors)} | {plain:.3f} | {whole:.3f} | {plain / whole:.1f} | {difference:.1e} | '
            f'{likely:.3f} |'
        )
    print('\n| error of the distances A | solver | float32 to float64 A | turned crystals A |')
    print('|---|---|---|---|')
    for noise in (0.0, 0.1, 0.2):
        batch, vectors, prediction = problem(32, device, noise, torch.float64)
        single = dataclasses.replace(
            prediction, **{name: getattr(prediction, name).float() for name in ('distance', 'log_scale', 'cell')}
        )
        turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, device=device)).Q
        for name, solver in (('published', displacements_within_bounds), ('likely', most_likely_displacements)):
            found = solver(prediction, vectors, batch)
            rounded = (solver(single, vectors.float(), batch) - found).abs().max()
            turned = (solver(prediction, vectors @ turn, batch) - found @ turn).abs().max()
            print(f'| {noise} | {name} | {float(rounded):.1e} | {float(turned):.1e} |')
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    print(
        f'\nMeasured {today} on {device_name(device)} with {torch.get_num_threads()} of {os.cpu_count()} CPU cores, '
        f'torch {torch.__version__}; times in float32, the fastest of {options.repeats} runs.'
    )


def problem(
    count: int, device: torch.device, noise: float = 0.0, dtype: torch.dtype = torch.float32
) -> tuple[CrystalBatch, Tensor, DistancePrediction]:
    """Return random crystals of 4 to 50 atoms, the vectors of their edges, and distances with errors of `noise` A."""
    rng = np.random.default_rng(count)
    sizes = rng.integers(4, 51, count)
    cells = [np.eye(3) * (15.0 * n) ** (1 / 3) + rng.normal(scale=0.3, size=(3, 3)) for n in sizes]
    positions = [scattered(n, rng) @ cell for n, cell in zip(sizes, cells, strict=True)]
    crystals = make_crystals([np.full(n, 14) for n in sizes], positions, cells)
    batch = make_batch(crystals, functools.partial(neighbour_graph, cutoff=6.0, max_neighbours=24), device, dtype)
    vectors, graph = batch.edge_vectors(batch.fractional, batch.cell), batch.graph
    moved = torch.as_tensor(rng.normal(scale=0.1, size=(len(batch.numbers), 3)), dtype=dtype, device=device)
    to_relaxed = vectors + moved[graph.neighbour]
    distance = torch.cat([to_relaxed, to_relaxed - moved[graph.centre]]).norm(dim=1)
    distance = distance + torch.as_tensor(noise * rng.normal(size=len(distance)), dtype=dtype, device=device)
    every = torch.ones(len(vectors), dtype=torch.bool, device=device)
    return batch, vectors, DistancePrediction(every, distance, torch.full_like(distance, -2.0), batch.cell)


def scattered(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return fractional coordinates ``(count, 3)`` near points of a grid, so that no two atoms are close."""
    points = int(np.ceil(count ** (1 / 3)))
    grid = np.stack(np.unravel_index(rng.choice(points**3, count, replace=False), (points,) * 3), axis=1)
    return (grid + 0.1 * rng.normal(size=grid.shape)) / points


def one_by_one(batch: CrystalBatch, vectors: Tensor, prediction: DistancePrediction) -> Tensor:
    """Return the displacements ``(A, 3)`` that a loop over crystals finds, each with torch's autograd and Adam."""
    crystal, first, parts = batch.structure_index[batch.graph.centre], 0, []
    for index, n_atoms in enumerate(batch.n_atoms.tolist()):
        own = crystal == index
        edges, j, i = vectors[own], batch.graph.neighbour[own] - first, batch.graph.centre[own] - first
        scale = prediction.log_scale.clamp(-5, 2).exp()
        upper = (prediction.distance + scale)[own.repeat(2)].view(2, -1)
        lower = (prediction.distance - scale).clamp_min(0)[own.repeat(2)].view(2, -1)
        moved = vectors.new_zeros(n_atoms, 3).requires_grad_()
        optimizer = torch.optim.Adam([moved], lr=0.1)
        for _ in range(100):
            displaced = (edges + moved[j]).norm(dim=1).clamp(0, 150)
            relaxed = (edges + moved[j] - moved[i]).norm(dim=1).clamp(0, 150)
            loss = (displaced - upper[0]).relu().mean() + (lower[0] - displaced).relu().mean()
            loss = loss + (relaxed - upper[1]).relu().mean() + (lower[1] - relaxed).relu().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        parts.append(moved.detach())
        first += n_atoms
    return torch.cat(parts)


def timed(compute: Callable[[], Tensor], repeats: int) -> tuple[float, Tensor]:
    """Return the shortest time in s of `repeats` runs, and the result."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = compute()
        if result.is_cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times), result


if __name__ == '__main__':
    main()
