"""Crystals for the tests of the chain's pure functions, as batches of one."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.spacegroup import crystal

from aiida_e3relax.crystals.structures import Crystals, make_crystals


def copper_gold() -> Atoms:
    """Ordered Cu3Au in its measured cell, sites not grouped by element."""
    atoms = crystal(['Cu', 'Au'], [(0.5, 0.5, 0), (0, 0, 0)], spacegroup=221, cellpar=[3.7493] * 3 + [90] * 3)
    return atoms[[0, 3, 1, 2]]


def rattled_copper_gold() -> Atoms:
    """The same with the atoms off their sites, for relaxations of several steps."""
    atoms = copper_gold()
    atoms.rattle(0.1, seed=3)
    return atoms


def to_crystals(atoms: Atoms) -> Crystals:
    return make_crystals([atoms.numbers], [atoms.positions], [atoms.cell.array], pbc=[atoms.pbc])


def strained(atoms: Atoms, strain: np.ndarray) -> Atoms:
    """The atoms in a cell deformed by ``1 + strain``, fractional coordinates kept."""
    strained_atoms = atoms.copy()
    strained_atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return strained_atoms
