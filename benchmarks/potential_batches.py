"""Compare relaxations by a potential one after the other with relaxations of several crystals in a batch.

    python benchmarks/potential_batches.py                                # on a GPU, where there is one
    python benchmarks/potential_batches.py --potential chgnet --device cpu
    python benchmarks/potential_batches.py --device cpu --compile         # SevenNet in batches, compiled, too

MACE needs torch-sim for batches (`pip install '.[mlip,torch-sim]'`, Python 3.12 or later), SevenNet takes it where it
is there, CHGNet needs nothing else. The crystals are of the prototypes below, strained and rattled, of 4 to 12 atoms.
All ways take the same steps, and have relaxed two crystals before the clock starts. On a machine that others use too,
compare processor time. Writes Markdown to standard output.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import time
import warnings

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk

from aiida_e3relax.common.progress import NoProgress
from aiida_e3relax.crystals.structures import Crystals, make_crystals
from aiida_e3relax.gnn.device import device_name, prepare_device
from aiida_e3relax.gnn.potentials.base import Potential
from aiida_e3relax.gnn.potentials.registry import POTENTIALS, load_potential
from aiida_e3relax.gnn.prediction.freedom import PredictionFreedom
from aiida_e3relax.gnn.prediction.pre_relaxation import PreRelaxation
from aiida_e3relax.gnn.prediction.settings import PotentialSettings

PROTOTYPES = (
    *(('rocksalt', name, a) for name, a in (('MgO', 4.2), ('NaCl', 5.6), ('CaO', 4.8), ('TiN', 4.2), ('PbS', 5.9))),
    *(('zincblende', name, a) for name, a in (('GaAs', 5.7), ('SiC', 4.4), ('ZnS', 5.4), ('InP', 5.9))),
    *(('cesiumchloride', name, a) for name, a in (('CsCl', 4.1), ('NiAl', 2.9))),
    *(('fluorite', name, a) for name, a in (('CaF2', 5.5), ('Li2O', 4.6))),
)
SIZES = ((2, 1, 1), (2, 2, 1), (3, 1, 1), (4, 1, 1))


def main() -> None:
    """Relax both ways and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--potential', choices=POTENTIALS, default='sevennet-mf-0', help='default: %(default)s')
    parser.add_argument('--weights', help='its file, where its package brings none')
    parser.add_argument('--count', type=int, default=24, help='crystals (default: %(default)s)')
    parser.add_argument('--force', type=float, default=0.05, help='eV/A, where steps end (default: %(default)s)')
    parser.add_argument('--device', default='auto', help='default: %(default)s')
    parser.add_argument('--threads', type=int, default=1, help='of a CPU (default: %(default)s)')
    parser.add_argument('--compile', action='store_true', help='measure batches that `torch.compile` speeds up, too')
    options = parser.parse_args()
    device = prepare_device(options.device, options.threads)
    crystals = make(options.count)
    settings = PotentialSettings(options.potential, 'input', 200, options.force, 5.0)
    n_atoms = int(crystals.n_atoms.sum())
    print(f'| {options.potential}, {len(crystals)} crystals, {n_atoms} atoms | computed | wall time s | CPU-s |')
    print('|---|---|---|---|')
    energies = []
    for in_batches, is_compiled in ((False, False), (True, False), (True, True))[: 3 if options.compile else 2]:
        potential = load_potential(
            options.potential, device, weights=options.weights, in_batches=in_batches, is_compiled=is_compiled
        )
        rows, seconds, cpu_seconds = relax(crystals, potential, settings)
        computed = sum(row['steps'] + 2 for row in rows)  # the start, and where its symmetry is made exact
        words = f'{potential.evaluation}{", compiled" if is_compiled else ""}'
        print(f'| {words} | {computed} | {seconds:.2f} | {cpu_seconds:.2f} |', flush=True)
        energies.append([row['energy_prediction_eV_per_atom'] for row in rows])
    apart = 1000 * np.ptp(energies, axis=0)
    print(
        f'\nThe ends differ by up to {apart.max():.2g} meV/atom (median {np.median(apart):.2g}). Measured '
        f'{datetime.datetime.now(datetime.UTC).date()} on {device_name(device) or platform.machine()}, {device}, torch '
        f'{torch.__version__}, {options.potential} of {potential.version}.'
    )


def make(count: int) -> Crystals:
    """Return crystals that are not yet relaxed."""
    frames: list[Atoms] = []
    for index in range(count):
        structure, name, a = PROTOTYPES[index % len(PROTOTYPES)]
        atoms = bulk(name, structure, a=a) * SIZES[index % len(SIZES)]
        strain = np.random.default_rng(index).normal(scale=0.02, size=(3, 3))
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
        atoms.rattle(0.05, seed=index)
        frames.append(atoms)
    return make_crystals(
        [atoms.numbers for atoms in frames],
        [atoms.positions for atoms in frames],
        [atoms.cell.array for atoms in frames],
        [f'{index}_{atoms.get_chemical_formula()}' for index, atoms in enumerate(frames)],
    )


def relax(crystals: Crystals, potential: Potential, settings: PotentialSettings) -> tuple[list[dict], float, float]:
    """Return the rows of all relaxations, and their wall and processor time in s."""
    relaxation = PreRelaxation(potential, settings)
    free = PredictionFreedom(None, crystals, [None] * len(crystals))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        relaxation.relax(crystals, crystals, range(2), free, NoProgress())
        start, cpu_start = time.perf_counter(), time.process_time()
        _, rows, failures = relaxation.relax(crystals, crystals, range(len(crystals)), free, NoProgress())
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    if failures:
        raise SystemExit(f'failed: {failures}')
    return [rows[index] for index in range(len(crystals))], seconds, cpu_seconds


if __name__ == '__main__':
    main()
