"""Time and memory of the fast engine against the plain layers: same weights, one run, one table.

    python benchmarks/speed.py [--threads 1 2] [--quick]

Ratios are of the shortest times of alternating runs, both with freed memory kept. Memory is measured in a process of
its own: the peak of the first run, in which the fast engine packs weights and makes its tables, and of a later one,
each above what the process held before. Writes Markdown to standard output.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import dataclasses
import datetime
import itertools
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, mx2
from ase.spacegroup import crystal

from aiida_e3relax.crystals.structures import Crystals, make_crystals
from aiida_e3relax.gnn.device import device_name, keep_freed_memory
from aiida_e3relax.gnn.engine import native
from aiida_e3relax.gnn.engine.accelerate import accelerate
from aiida_e3relax.gnn.graph.batch import CrystalBatch, Geometry, make_batch
from aiida_e3relax.gnn.models.base import RelaxationModel
from aiida_e3relax.gnn.models.losses import LossSettings, Target
from aiida_e3relax.gnn.models.registry import make_model

LARGE = {'features': 512, 'layers': 4, 'max_neighbours': 50, 'radial_functions': 128}
"""The sizes that the papers use."""


def crystals_of(frames: list[Atoms]) -> Crystals:
    """Return ASE structures as one batch."""
    return make_crystals([a.numbers for a in frames], [a.positions for a in frames], [a.cell.array for a in frames])


def thirty_two() -> list[Atoms]:
    """Return 32 rattled crystals of 4 to 48 atoms, 440 in all."""
    rutile = crystal(
        ['Ti', 'O'], [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[4.594, 4.594, 2.959, 90, 90, 90]
    )
    makers = [
        bulk('ZnO', 'wurtzite', a=3.250, c=5.207),
        rutile,
        bulk('GaAs', 'zincblende', a=5.653, cubic=True),
        bulk('NaCl', 'rocksalt', a=5.640) * (2, 2, 1),
        bulk('ZnO', 'wurtzite', a=3.250, c=5.207) * (2, 2, 1),
        rutile * (2, 1, 2),
        bulk('CaF2', 'fluorite', a=5.463) * (2, 2, 1),
        bulk('GaAs', 'zincblende', a=5.653, cubic=True) * (2, 1, 1),
    ]
    frames = [atoms.copy() for atoms in makers * 4]
    frames[-1] = rutile * (2, 2, 2)
    rng = np.random.default_rng(0)
    for atoms in frames:
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.03 * rng.normal(size=(3, 3))), scale_atoms=True)
        atoms.rattle(0.1, rng=rng)
    return frames


def molybdenum_disulphide() -> list[Atoms]:
    """Return a rattled MoS2 layer of 192 atoms with 15 A of vacuum."""
    layer = mx2('MoS2', kind='2H', a=3.18, thickness=3.19, vacuum=7.5) * (8, 8, 1)
    layer.rattle(0.05, seed=0)
    return [layer]


LEAST_S = 3.0
"""Short runs are repeated for at least this long: on a shared machine the first few may all be disturbed."""


def shortest(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the shortest time in s of each of `runs`, taken in turn.

    A turn is two runs, of which the second counts: in use, a run finds in the caches what one of its own kind left.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    begin = time.perf_counter()
    for repeat in itertools.count():
        if repeat > repeats and time.perf_counter() - begin > LEAST_S:
            break
        for name, run in runs.items():
            run()
            start = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if repeat:
                times[name].append(time.perf_counter() - start)
    return {name: min(values) for name, values in times.items()}


def gemm_peak() -> float:
    """Return the GFLOP/s of a product of two 2048 x 2048 matrices in single precision, by the better library."""
    a, weight = torch.randn(2048, 2048), torch.randn(2048, 2048)
    runs = {'default': lambda: a @ weight.T}
    if hasattr(torch.ops.mkldnn, '_linear_pointwise'):
        runs['oneDNN'] = lambda: torch.ops.mkldnn._linear_pointwise(a, weight, None, 'none', [], '')
    return 2 * 2048**3 / min(shortest(runs, 5).values()) / 1e9


def linear_gflop(model: RelaxationModel, batch: CrystalBatch) -> float:
    """Return the floating-point operations, in 1e9, of the linear maps over atoms and lattices in one forward pass."""
    total = 0

    def count(module: torch.nn.Linear, inputs: tuple[torch.Tensor], _: torch.Tensor) -> None:
        nonlocal total
        total += 2 * inputs[0].numel() * module.out_features

    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, torch.nn.Linear)]
    with torch.no_grad():
        model(batch)
    for hook in hooks:
        hook.remove()
    return total / 1e9


@dataclasses.dataclass
class Case:
    """One row: a model, its input, and whether a training step is timed instead of a prediction."""

    name: str
    architecture: str
    sizes: dict[str, int]
    frames: list[Atoms]
    training: bool = False

    def prepare(self) -> tuple[RelaxationModel, CrystalBatch]:
        """Return the plain model with random weights, and the batch."""
        torch.manual_seed(0)
        model = make_model(self.architecture, self.sizes).eval()
        return model, make_batch(crystals_of(self.frames), model.graph)

    def run(self, model: RelaxationModel, batch: CrystalBatch) -> Callable[[], object]:
        """Return what is timed."""
        if not self.training:
            return torch.no_grad()(lambda: model(batch))
        optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
        target = Target.of(Geometry(batch.fractional + 0.01, batch.cell * 1.02))

        def step() -> None:
            losses, _ = model.loss(batch, target, LossSettings())
            optimizer.zero_grad()
            losses.mean().backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()

        return step


def cases() -> list[Case]:
    """Return the rows of the table."""
    frames = thirty_two()
    return [
        Case('32 crystals, 4-48 atoms', 'e3relax-h2', LARGE, frames),
        Case('one crystal of 4 atoms', 'e3relax-h2', LARGE, frames[:1]),
        Case('MoS2, 192 atoms', 'e3relax-h2', LARGE, molybdenum_disulphide()),
        Case('32 crystals, default size', 'e3relax-h2', {}, frames),
        Case('training step, default size', 'e3relax-h2', {}, frames, training=True),
        Case('32 crystals', 'e3relax', LARGE, frames),
        Case('32 crystals', 'e3relax-h2-published', {'features': 512, 'layers': 4}, frames),
        Case('32 crystals', 'e3relax-published', {'features': 512, 'layers': 4}, frames),
    ]


def without_kernels(run: Callable[[], object]) -> Callable[[], object]:
    """Return `run` as it is where the compiled kernels were not built."""

    def bare() -> None:
        library, native.library = native.library, lambda: None
        try:
            run()
        finally:
            native.library = library

    return bare


def time_row(case: Case, threads: int, repeats: int, peak: float) -> str:
    """Return one row of the table of times."""
    torch.set_num_threads(threads)
    plain, batch = case.prepare()
    fast, bare = accelerate(copy.deepcopy(plain)), accelerate(copy.deepcopy(plain))
    runs = {'plain': case.run(plain, batch), 'fast': case.run(fast, batch)}
    if not case.training:
        runs['bare'] = without_kernels(case.run(bare, batch))
    best = shortest(runs, repeats)
    bare_ratio = f'x{best["plain"] / best["bare"]:.1f}' if 'bare' in best else '-'
    reached = '-' if case.training else f'{linear_gflop(fast, batch) / best["fast"] / peak:.0%}'
    return (
        f'| {case.architecture} | {case.name} | {len(batch.numbers)} / {len(batch.graph.centre)} | {threads} '
        f'| {1e3 * best["plain"]:.1f} | {1e3 * best["fast"]:.1f} | **x{best["plain"] / best["fast"]:.1f}** '
        f'| {bare_ratio} | {reached} |'
    )


def peak_memory(case: Case, engine: str) -> tuple[float, float]:
    """Return the MiB that the first run takes at its peak, above model and batch, and those that a later run takes."""
    model, batch = case.prepare()
    run = case.run(accelerate(model) if engine == 'fast' else model, batch)
    peaks = []
    for _ in range(2):
        ctypes.CDLL(None).malloc_trim(0)  # gives back what is not in use
        before = _status('VmRSS')
        Path('/proc/self/clear_refs').write_text('5', encoding='ascii')  # forgets the peak so far
        run()
        peaks.append((_status('VmHWM') - before) / 1024)
    return peaks[0], peaks[1]


def _status(field: str) -> int:
    lines = Path('/proc/self/status').read_text(encoding='ascii').splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def memory_row(index: int, case: Case) -> str:
    """Return one row of the table of memory, each engine measured in a process of its own."""
    mib = {}
    for engine in ('reference', 'fast'):
        command = [sys.executable, __file__, '--memory-of', str(index), engine]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        mib[engine] = [float(word) for word in printed.split()]
    (plain, plain_later), (fast, fast_later) = mib['reference'], mib['fast']
    return (
        f'| {case.architecture} | {case.name} | {plain:.0f} | {fast:.0f} | {fast / plain:.2f} '
        f'| {plain_later:.0f} | {fast_later:.0f} | {fast_later / plain_later:.2f} |'
    )


def scaling_rows(threads: int) -> list[str]:
    """Return rows of time against size: many crystals, and one large cell, with the default sizes."""
    torch.set_num_threads(threads)
    model = accelerate(make_model('e3relax-h2', {}).eval())
    rows = []
    cell = bulk('NaCl', 'rocksalt', a=5.640, cubic=True)
    for repeat in (3, 4, 6, 8):
        atoms = cell * (repeat, repeat, repeat)
        atoms.rattle(0.05, seed=0)
        rows.append(_scaling_row(f'one cell of {len(atoms)} atoms', model, crystals_of([atoms])))
    for count in (100, 1000, 10_000):
        frames = (thirty_two() * (count // 32 + 1))[:count]
        rows.append(_scaling_row(f'{count} crystals', model, crystals_of(frames)))
    return rows


def _scaling_row(name: str, model: RelaxationModel, crystals: Crystals) -> str:
    start = time.perf_counter()
    graph = forward = 0.0
    for first in range(0, len(crystals), 100):
        start = time.perf_counter()
        batch = make_batch(crystals.select(np.arange(first, min(first + 100, len(crystals)))), model.graph)
        middle = time.perf_counter()
        with torch.no_grad():
            model(batch)
        graph, forward = graph + middle - start, forward + time.perf_counter() - middle
    atoms = int(crystals.n_atoms.sum())
    return f'| {name} | {atoms} | {graph:.3f} | {forward:.3f} | {1e6 * (graph + forward) / atoms:.0f} |'


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description='Time and memory of the fast engine against the plain layers.')
    parser.add_argument('--threads', type=int, nargs='+', default=[1, 2], help='thread counts to time (default: 1 2)')
    parser.add_argument('--repeats', type=int, default=5, help='timed runs of each (default: 5)')
    parser.add_argument('--quick', action='store_true', help='only the first table, one thread')
    parser.add_argument('--memory-of', nargs=2, metavar=('CASE', 'ENGINE'), help=argparse.SUPPRESS)
    options = parser.parse_args()
    keep_freed_memory()
    if options.memory_of:
        torch.set_num_threads(1)
        print(*peak_memory(cases()[int(options.memory_of[0])], options.memory_of[1]))
        return
    threads = options.threads[:1] if options.quick else options.threads
    torch.set_num_threads(1)
    peak = gemm_peak()
    print(
        f'{datetime.date.today()}, {device_name(torch.device("cpu"))}, {platform.system()}, torch {torch.__version__}; '
        f'measured peak of single-precision GEMM: {peak:.0f} GFLOP/s a core.\n'
    )
    print('| model | input | atoms / edges | threads | plain, ms | fast, ms | ratio | without C++ | of GEMM peak |')
    print('|---|---|---|---|---|---|---|---|---|')
    for case in cases():
        for count in threads:
            print(time_row(case, count, options.repeats, peak * count), flush=True)
    if options.quick:
        return
    print('\n| model | input | first run: plain, MiB | fast | ratio | later: plain | fast | ratio |')
    print('|---|---|---|---|---|---|---|---|')
    for index, case in enumerate(cases()):
        print(memory_row(index, case), flush=True)
    print('\n| default size, one thread | atoms | graph, s | forward, s | us an atom |\n|---|---|---|---|---|')
    for row in scaling_rows(1):
        print(row, flush=True)


if __name__ == '__main__':
    main()
