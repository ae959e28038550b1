"""Measure time and memory of the graphs of large training sets, which are made up.

    python benchmarks/large_sets.py 2000 20000

Of each size a process of its own makes pairs of 70 atoms and the graphs of a training with 24 neighbours, as
`e3relax train` holds them. Writes Markdown to standard output.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time

import numpy as np
import torch

from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.crystals.structures import make_crystals
from aiida_e3relax.gnn.models.registry import make_model
from aiida_e3relax.gnn.training.batches import PreparedPairs

ATOMS = 70
"""In each crystal, as many as a structure of OC20 has."""

VOLUME = 16.0
"""In A^3 an atom."""

GIB = 2**20
"""In the kB of the system's figures."""


def main() -> None:
    """Measure each size and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('sizes', nargs='+', type=int, help='pairs')
    sizes = parser.parse_args().sizes
    print('| pairs | before, GiB | at most, GiB | CPU-s |')
    print('|---|---|---|---|')
    for size in sizes:
        with multiprocessing.get_context('spawn').Pool(1) as pool:
            before, peak, seconds = pool.apply(measure, (size,))
        print(f'| {size:,} | {before / GIB:.2f} | {peak / GIB:.2f} | {seconds:.0f} |')


def measure(size: int) -> tuple[int, int, float]:
    """Return the kB of the process with the pairs, those at most with their graphs, and the CPU seconds of these."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    cells = np.cbrt(ATOMS * VOLUME) * (np.eye(3) + 0.1 * rng.normal(size=(size, 3, 3)))
    crystals = make_crystals(
        list(rng.integers(3, 80, (size, ATOMS))), list(rng.random((size, ATOMS, 3)) @ cells), list(cells)
    )
    relaxed = crystals.replace(crystals.positions + 0.05 * rng.normal(size=crystals.positions.shape), crystals.cell)
    pairs = Pairs(crystals, relaxed, np.full(size, 'train'), np.full(size, 'made-up'))
    model = make_model('e3relax-h2', {'max_neighbours': 24})
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    PreparedPairs(pairs, model, torch.device('cpu'))
    return before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time() - start


if __name__ == '__main__':
    main()
