"""What the fast engine gains on a processor by the library of its linear maps, and by flushing subnormal numbers.

    python benchmarks/on_cpu.py

The engine takes PyTorch's default library on Intel's processors and oneDNN on others
(`aiida_e3relax/gnn/engine/linear.py`), and commands flush subnormal numbers (`aiida_e3relax/gnn/device.py`). All ways
are run here in turn, on one thread, with the same weights, and the shortest of the turns count, of processor time.
Writes Markdown to standard output.
"""

from __future__ import annotations

import copy
import datetime
import sys
import time
from collections.abc import Callable

import torch
from speed import LARGE, Case, thirty_two

from aiida_e3relax.gnn.engine import linear
from aiida_e3relax.gnn.engine.accelerate import accelerate

SMALL = {'features': 48, 'layers': 3, 'max_neighbours': 24}
"""About the sizes of the tables in docs/experiments.md."""

TURNS = 8


def cases() -> list[Case]:
    """Return the rows of the table."""
    frames = thirty_two()
    models = (
        'painn',
        'egnn',
        'gotennet',
        'deeprelax',
        'e3relax',
        'e3relax-h2',
        'e3relax-published',
        'e3relax-h2-published',
    )
    return [
        *(Case('training step, small', name, SMALL, frames, training=True) for name in models),
        Case('training step, default size', 'e3relax-h2', {}, frames, training=True),
        Case('prediction, default size', 'e3relax-h2', {}, frames),
        Case("prediction, the papers' size", 'e3relax-h2', LARGE, frames),
    ]


WAYS = {
    'oneDNN': (True, False),
    'default': (False, False),
    'oneDNN, flushed': (True, True),
    'default, flushed': (False, True),
}
"""Whether linear maps go through oneDNN, and whether subnormal numbers are flushed."""


def seconds(run: Callable[[], object], onednn: bool, flush: bool) -> float:
    """Return the processor time in s of the second of two runs."""
    chosen, linear.takes_onednn = linear.takes_onednn, lambda: onednn
    torch.set_flush_denormal(flush)
    try:
        run()
        start = time.process_time()
        run()
        return time.process_time() - start
    finally:
        linear.takes_onednn = chosen
        torch.set_flush_denormal(False)


def row(case: Case) -> str:
    """Return one row of the table."""
    plain, batch = case.prepare()
    runs = {way: case.run(accelerate(copy.deepcopy(plain)), batch) for way in WAYS}
    best = dict.fromkeys(WAYS, float('inf'))
    for _ in range(TURNS):
        for way, run in runs.items():
            best[way] = min(best[way], seconds(run, *WAYS[way]))
    times = ' | '.join(f'{1e3 * value:.1f}' for value in best.values())
    return f'| {case.architecture} | {case.name} | {times} | **x{best["oneDNN"] / best["default, flushed"]:.2f}** |'


def main() -> None:
    """Print the table."""
    if not linear.has_onednn():
        sys.exit('this PyTorch has no oneDNN')
    torch.set_num_threads(1)
    taken = 'oneDNN' if linear.takes_onednn() else 'the default'
    print(f'{datetime.date.today()}, torch {torch.__version__}; ms of one thread. Here the engine takes {taken}.\n')
    print(f'| model | what | {" | ".join(WAYS)} | last against first |\n|{"---|" * (len(WAYS) + 3)}')
    for case in cases():
        print(row(case), flush=True)


if __name__ == '__main__':
    main()
