r"""Write the crystals of a data set that are cheap to compute with real PBE, for a static DFT validation.

    e3relax data pnictides/ --output pnictides.npz
    python benchmarks/validation.py pnictides.npz small.npz --max-atoms 6
    aiida-e3relax setup --engine gpaw
    aiida-e3relax validate small.npz --split test --draw 14 --unmatched --protocol fast --kpoints-spacing 0.08 \
        --overrides benchmarks/hypothetical.yaml --vacuum none --max-running 1 --models default other=run/best.pt

Crystals of `ELEMENTS` alone are kept, without 3d and 4d shells that need many plane waves, and the splits stay. With
GPAW behind the stand-in (`pip install '.[dft]'`) an energy takes about a minute of a core. The pnictides are bulk
crystals of which some start with wide gaps: `--vacuum none`. How many of the crystals that were drawn end in a crystal
of the training split, too:

    python benchmarks/validation.py pnictides.npz --drawn REPORT/validation.csv
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from ase.data import chemical_symbols

from aiida_e3relax.crystals.datasets.pairs_file import read_pairs, write_pairs
from aiida_e3relax.crystals.duplicates import find_repeats
from aiida_e3relax.crystals.pairs import Pairs

ELEMENTS = ('Li', 'Na', 'K', 'Mg', 'Ca', 'Sr', 'Al', 'Si', 'Ge', 'P', 'As', 'Sb')


def main() -> None:
    """Write the pairs that are small and of cheap elements, or count leaks among those drawn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('pairs', type=Path)
    parser.add_argument('output', type=Path, nargs='?')
    parser.add_argument('--drawn', type=Path, help='the table of a validation')
    parser.add_argument('--max-atoms', type=int, default=6)
    options = parser.parse_args()
    pairs = read_pairs(options.pairs)
    if options.drawn:
        print_leaks(pairs, set(pd.read_csv(options.drawn)['crystal']))
    if options.output:
        write_small(pairs, options.output, options.max_atoms)


def print_leaks(pairs: Pairs, labels: set[str]) -> None:
    """Print how many of the test pairs with these labels end in a relaxed crystal of the training split."""
    is_drawn = (pairs.split == 'test') & np.isin(pairs.unrelaxed.labels, list(labels))
    known = pairs.select(np.flatnonzero(is_drawn | (pairs.split == 'train')))
    leaks = find_repeats(known).shared(known.split, 'test', 'train')
    print(f'{len(leaks)} of {is_drawn.sum()} drawn crystals end in a crystal of the training split')


def write_small(pairs: Pairs, output: Path, max_atoms: int) -> None:
    """Write the pairs of at most `max_atoms` atoms, all of `ELEMENTS`."""
    crystals = pairs.unrelaxed
    is_cheap = np.isin(crystals.numbers, [chemical_symbols.index(symbol) for symbol in ELEMENTS])
    all_cheap = np.bincount(crystals.structure_index, is_cheap, len(pairs)) == crystals.n_atoms
    kept = pairs.select(np.flatnonzero(all_cheap & (crystals.n_atoms <= max_atoms)))
    write_pairs(output, kept)
    splits = {split: int((kept.split == split).sum()) for split in sorted(set(kept.split.tolist()))}
    print(f'{len(kept)} of {len(pairs)} pairs, by split {splits}: {output}')


if __name__ == '__main__':
    main()
