"""Time of the neighbour search, crystal by size and for a batch: vesin against torch, on one thread of the CPU.

python benchmarks/graphs.py
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from aiida_e3relax.crystals.structures import Crystals, make_crystals
from aiida_e3relax.gnn.graph.pair_search import pairs_by_torch, pairs_by_vesin
from aiida_e3relax.gnn.graph.shells import neighbour_graph

CUTOFF = 6.0
VOLUME = 15.0  # A^3 per atom
SIZES = (4, 16, 50, 100, 192, 500, 1000, 4000)


def made_crystals(sizes: list[int]) -> Crystals:
    """Return crystals of atoms at random in slightly skewed cells."""
    rng = np.random.default_rng(0)
    cells = [np.eye(3) * (VOLUME * n) ** (1 / 3) @ (np.eye(3) + 0.05 * rng.normal(size=(3, 3))) for n in sizes]
    positions = [rng.random((n, 3)) @ cell for n, cell in zip(sizes, cells, strict=True)]
    return make_crystals([[14] * n for n in sizes], positions, cells)


def milliseconds(work: Callable[[], object], repeats: int) -> float:
    """Return the shortest of `repeats` times of `work`."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times) * 1e3


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print('| crystals | atoms | vesin (ms) | torch (ms) | whole graph, K=24 (ms) |\n|---|---|---|---|---|')
    batch = np.random.default_rng(1).integers(4, 23, 31).tolist() + [50]
    for sizes in [[n] for n in SIZES] + [batch]:
        crystals = made_crystals(sizes)
        fractional, cell = torch.as_tensor(crystals.fractional() % 1.0), torch.as_tensor(crystals.cell)
        given = fractional, cell, torch.as_tensor(crystals.n_atoms)
        repeats = 1 if sum(sizes) > 1000 else 5
        vesin = milliseconds(lambda given=given: pairs_by_vesin(*given, CUTOFF), repeats)
        plain = milliseconds(lambda given=given: pairs_by_torch(*given, CUTOFF), repeats)
        whole = milliseconds(lambda given=given: neighbour_graph(*given, CUTOFF, 24), repeats)
        print(f'| {len(sizes)} | {sum(sizes)} | {vesin:.2f} | {plain:.2f} | {whole:.2f} |', flush=True)


if __name__ == '__main__':
    main()
