"""Slabs that the project makes itself: the lower half is fixed, the cell too, and the upper half relaxes."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import fcc111
from ase.constraints import FixAtoms

from aiida_e3relax.crystals.pairs import Pairs
from tests.gnn.crystals import batch_of


def made_slab_frames(count: int = 8) -> tuple[list[Atoms], list[Atoms]]:
    """Return slabs before and after: the upper atoms move inwards, more so those of gold, which is larger."""
    rng = np.random.default_rng(5)
    before, after = [], []
    for _ in range(count):
        atoms = fcc111('Cu', (1, 1, 4), a=3.8, vacuum=5.0, periodic=False)
        atoms.pbc = (True, True, False)
        atoms.numbers = rng.choice([29, 79], len(atoms))
        atoms.set_constraint(FixAtoms([0, 1]))
        relaxed = atoms.copy()
        relaxed.set_constraint()
        relaxed.positions[2:, 2] -= np.where(atoms.numbers[2:] == 79, 0.1, 0.2)
        relaxed.set_constraint(FixAtoms([0, 1]))
        before.append(atoms)
        after.append(relaxed)
    return before, after


def made_slabs(count: int = 8) -> Pairs:
    """Return `made_slab_frames` as pairs: two in the split val, the others in train."""
    before, after = made_slab_frames(count)
    fixed = np.zeros((4 * count, 3), dtype=bool)
    fixed[np.arange(4 * count) % 4 < 2] = True
    split = np.where(np.arange(count) < count - 2, 'train', 'val')
    source = np.full(count, 'slabs')
    return Pairs(batch_of(*before), batch_of(*after), split, source, fixed=fixed, fixed_cell=np.ones(count, dtype=bool))
