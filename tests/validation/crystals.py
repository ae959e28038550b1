"""Pairs of metals that effective medium theory knows, some of which StructureMatcher maps on each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.build import bulk

from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.crystals.structures import Crystals, make_crystals

FAILING = 3.3
"""The lattice constant in A of the unrelaxed crystal of `metal_pairs(1)`."""


def metal_pairs(count: int) -> Pairs:
    """Ordered alloys from 10 % too wide to 3 A; of every second one an atom is far off its site, so that it changes."""
    before, after = [], []
    for place in range(count):
        atoms = bulk(('NiPt', 'CuAu', 'AgPd')[place % 3], 'cesiumchloride', a=3.0)
        wide = atoms.copy()
        wide.set_cell(FAILING * np.eye(3), scale_atoms=True)
        if place % 2:
            wide.positions[1] = (0, 0, 0.5 * FAILING)
        before.append(wide)
        after.append(atoms)
    split = np.array(['test'] * count)
    return Pairs(_batch(before), _batch(after), split, np.array(['metals'] * count))


def _batch(crystals: Sequence[Atoms]) -> Crystals:
    return make_crystals(
        [atoms.numbers for atoms in crystals],
        [atoms.positions for atoms in crystals],
        [atoms.cell.array for atoms in crystals],
        labels=[f'{atoms.symbols} {place}' for place, atoms in enumerate(crystals)],
    )
