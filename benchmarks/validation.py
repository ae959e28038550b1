r"""Write the crystals of a data set that are cheap to compute with real PBE, for a static DFT validation.

    e3relax data pnictides/ --output pnictides.npz
    python benchmarks/validation.py pnictides.npz small.npz --max-atoms 6
    aiida-e3relax setup --engine gpaw
    aiida-e3relax validate small.npz --split test --draw 14 --unmatched --protocol fast --kpoints-spacing 0.08 \
        --overrides benchmarks/hypothetical.yaml --vacuum none --max-running 1 --models default other=run/best.pt

Crystals of `ELEMENTS` alone are kept, without 3d and 4d shells that need many plane waves, and the splits stay. With
GPAW behind the stand-in (`pip install '.[dft]'`) an energy takes about a minute of a core. The pnictides are bulk
crystals of which some start with wide gaps: `--vacuum none`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from aiida_e3relax.crystals.datasets.pairs_file import read_pairs, write_pairs

ELEMENTS = ('Li', 'Na', 'K', 'Mg', 'Ca', 'Sr', 'Al', 'Si', 'Ge', 'P', 'As', 'Sb')


def main() -> None:
    """Write the pairs that are small and of cheap elements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('pairs', type=Path)
    parser.add_argument('output', type=Path)
    parser.add_argument('--max-atoms', type=int, default=6)
    options = parser.parse_args()
    pairs = read_pairs(options.pairs)
    crystals = pairs.unrelaxed
    is_cheap = np.isin(crystals.numbers, [chemical_symbols.index(symbol) for symbol in ELEMENTS])
    all_cheap = np.bincount(crystals.structure_index, is_cheap, len(pairs)) == crystals.n_atoms
    kept = pairs.select(np.flatnonzero(all_cheap & (crystals.n_atoms <= options.max_atoms)))
    write_pairs(options.output, kept)
    splits = {split: int((kept.split == split).sum()) for split in sorted(set(kept.split.tolist()))}
    print(f'{len(kept)} of {len(pairs)} pairs, by split {splits}: {options.output}')


if __name__ == '__main__':
    main()
