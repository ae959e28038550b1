"""Compare the network with a relaxation by an interatomic potential: errors and processor time on a test split.

    python benchmarks/against_potential.py pnictides.npz

Needs CHGNet (`pip install '.[mlip]'`). The data set is one that `e3relax data` wrote. Of its test split some pairs of
small crystals are drawn. The potential relaxes sites and cell from the unrelaxed crystal, as VASP would; the network
predicts the same crystals in one pass. Everything has one thread.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import platform
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE
from numpy.typing import NDArray

from aiida_e3relax.common.progress import progress
from aiida_e3relax.crystals.datasets.pairs_file import read_pairs
from aiida_e3relax.crystals.metrics import cell_shape_deviation, coordinate_mae, volume_error
from aiida_e3relax.crystals.pairs import Pairs, aligned
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.gnn.checkpoints import DEFAULT_CHECKPOINT
from aiida_e3relax.gnn.checkpoints.checkpoint import load_checkpoint
from aiida_e3relax.gnn.engine.accelerate import accelerate
from aiida_e3relax.gnn.potentials.base import Potential
from aiida_e3relax.gnn.potentials.registry import load_potential
from aiida_e3relax.gnn.prediction.predict import predict


def main() -> None:
    """Relax, predict, measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('pairs', type=Path)
    parser.add_argument('--model', type=Path, default=DEFAULT_CHECKPOINT)
    parser.add_argument('--count', type=int, default=40, help='pairs to draw (default: %(default)s)')
    parser.add_argument('--most-atoms', type=int, default=20, help='in a crystal (default: %(default)s)')
    parser.add_argument('--force', type=float, default=0.05, help='eV/A, where FIRE stops (default: %(default)s)')
    parser.add_argument('--steps', type=int, default=500, help='of FIRE at most (default: %(default)s)')
    options = parser.parse_args()
    torch.set_num_threads(1)
    pairs = read_pairs(options.pairs).of_split('test')
    small = np.flatnonzero(pairs.unrelaxed.n_atoms <= options.most_atoms)
    pairs = pairs.select(np.random.default_rng(0).permutation(small)[: options.count])

    potential = load_potential('chgnet', torch.device('cpu'))
    start = time.process_time()
    relaxed, done = relax(pairs.unrelaxed, potential, options.force, options.steps)
    by_potential = (time.process_time() - start) / len(pairs)
    if failed := len(pairs) - len(done):
        print(f'{failed} crystals left out, which {potential.name} could not compute', file=sys.stderr)
    pairs, relaxed = pairs.select(done), relaxed.select(done)

    checkpoint = load_checkpoint(options.model)
    network = accelerate(checkpoint.model)
    predict(network, pairs.unrelaxed, checkpoint.elements, torch.device('cpu'))  # what the first use sets up
    start = time.process_time()
    predicted = predict(network, pairs.unrelaxed, checkpoint.elements, torch.device('cpu')).crystals
    by_network = (time.process_time() - start) / len(pairs)

    print(
        f'| {options.pairs.stem}, test, {len(pairs)} pairs | coordinates A | cell shape A^2 | volume A^3 | CPU-s each |'
    )
    print('|---|---|---|---|---|')
    rows = {'Dummy': (pairs.unrelaxed, 0.0), 'CHGNet': (relaxed, by_potential), 'network': (predicted, by_network)}
    for name, (crystals, seconds) in rows.items():
        print(f'| {name} | {" | ".join(errors(crystals, pairs))} | {seconds:.3g} |')
    print(
        f'\nAligned frame, mean (median); crystals of up to {options.most_atoms} atoms. FIRE to {options.force:g} eV/A '
        f'in at most {options.steps} steps. Measured {datetime.datetime.now(datetime.UTC).date()} on '
        f'{platform.machine()}, torch {version("torch")}, chgnet {version("chgnet")}.'
    )


def relax(crystals: Crystals, potential: Potential, force: float, steps: int) -> tuple[Crystals, NDArray[np.int64]]:
    """Return where FIRE leads, sites and cell together, and the indices of the crystals that it got through."""
    positions, cell, offsets = crystals.positions.copy(), crystals.cell.copy(), crystals.offsets
    done = []
    for index in progress(range(len(crystals)), f'relaxing with {potential.name}'):
        sites = slice(offsets[index], offsets[index + 1])
        atoms = Atoms(crystals.numbers[sites], positions[sites], cell=cell[index], pbc=True)
        atoms.calc = potential.calculator
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')  # of CHGNet at every call
                FIRE(FrechetCellFilter(atoms), logfile=None).run(fmax=force, steps=steps)
        except Exception as error:  # whatever the potential raises
            print(f'{crystals.labels[index]}: {type(error).__name__}: {error}', file=sys.stderr)
            continue
        positions[sites], cell[index] = atoms.positions, atoms.cell.array
        done.append(index)
    return crystals.replace(positions, cell), np.array(done, dtype=np.int64)


def errors(crystals: Crystals, pairs: Pairs) -> list[str]:
    """Return mean (median) of the papers' three measures of `crystals`, in the aligned frame."""
    target = aligned(pairs).relaxed.with_centroids_of(pairs.unrelaxed)
    guess = aligned(dataclasses.replace(pairs, relaxed=crystals)).relaxed.with_centroids_of(pairs.unrelaxed)
    return [
        f'{values.mean():.3g} ({np.median(values):.3g})'
        for values in (
            coordinate_mae(guess, target),
            cell_shape_deviation(guess, target),
            volume_error(guess, target),
        )
    ]


if __name__ == '__main__':
    main()
