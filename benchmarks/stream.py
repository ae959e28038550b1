"""Memory and throughput of `e3relax predict` for a few and for many crystals, each count in a process of its own.

python benchmarks/stream.py 2000 20000
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from aiida_e3relax.crystals.structures import make_crystals, write_npz

SPACING = 2.6  # A


def write_crystals(path: Path, count: int) -> None:
    """Write `count` strained and rattled GaAs-like cells of 2 to 8 atoms on a simple cubic mesh."""
    rng = np.random.default_rng(0)
    meshes = [np.array(mesh) for mesh in ((1, 1, 2), (1, 2, 2), (2, 2, 2))]
    numbers, positions, cells = [], [], []
    for mesh in rng.integers(0, len(meshes), count):
        points = np.indices(meshes[mesh]).reshape(3, -1).T
        strain = np.eye(3) + 0.03 * rng.normal(size=(3, 3))
        numbers.append(np.where(points.sum(axis=1) % 2, 33, 31))
        positions.append((points + 0.03 * rng.normal(size=points.shape)) * SPACING @ strain)
        cells.append(np.diag(meshes[mesh]) * SPACING @ strain)
    write_npz(path, make_crystals(numbers, positions, cells))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('counts', nargs='*', type=int, default=[2000, 20000])
    parser.add_argument('--threads', default='1')
    parser.add_argument('--device', default='cpu')
    options = parser.parse_args()
    print('| structures | structures/s | peak memory (MB) |\n|---|---|---|', flush=True)
    for count in options.counts:
        with tempfile.TemporaryDirectory() as folder:
            crystals, report = Path(folder) / 'in.npz', Path(folder) / 'report.json'
            write_crystals(crystals, count)
            command = [sys.executable, '-m', 'aiida_e3relax.gnn.cli', 'predict', str(crystals)]
            command += ['--output', str(Path(folder) / 'out.npz'), '--report', str(report)]
            subprocess.run([*command, '--threads', options.threads, '--device', options.device], check=True)
            facts = json.loads(report.read_text(encoding='utf-8'))
        rate = count / (facts['timings_s']['total'] - facts['timings_s']['load'])
        print(f'| {count} | {rate:.0f} | {facts["peak_memory_mb"]:.0f} |', flush=True)


if __name__ == '__main__':
    main()
