"""A data set that the project makes itself: crystals of measured lattice constants, from wrong volumes to right."""

from __future__ import annotations

import numpy as np

from aiida_e3relax.crystals.pairs import Pairs
from tests.gnn.crystals import PROTOTYPES, batch_of


def made_pairs(copies: int = 6) -> Pairs:
    """Return pairs whose relaxed crystal is the measured one and whose unrelaxed one is strained and rattled."""
    rng = np.random.default_rng(11)
    before, after = [], []
    for make in list(PROTOTYPES.values()) * copies:
        atoms = make()
        after.append(atoms.copy())
        atoms.set_cell(atoms.cell.array * rng.uniform(0.9, 1.1), scale_atoms=True)
        atoms.rattle(0.05, rng=rng)
        before.append(atoms)
    per_copy = ['train'] * (copies - 2) + ['val', 'test']
    split = np.repeat(per_copy, len(PROTOTYPES))
    return Pairs(batch_of(*before), batch_of(*after), split, np.full(len(before), 'made'))
