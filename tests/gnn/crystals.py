"""Crystals for the tests of the network: prototypes with measured lattice constants, and random cells."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.spacegroup import crystal

from aiida_e3relax.crystals.structures import Crystals, make_crystals

PROTOTYPES = {
    'rock salt': lambda: bulk('NaCl', 'rocksalt', a=5.640),
    'zinc blende': lambda: bulk('GaAs', 'zincblende', a=5.653),
    'caesium chloride': lambda: bulk('CsCl', 'cesiumchloride', a=4.123),
    'fluorite': lambda: bulk('CaF2', 'fluorite', a=5.463),
    'hcp': lambda: bulk('Mg', 'hcp', a=3.209, c=5.211),
    'perovskite': lambda: crystal(
        ['Sr', 'Ti', 'O'], [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0)], spacegroup=221, cellpar=[3.905] * 3 + [90] * 3
    ),
    'rutile': lambda: crystal(
        ['Ti', 'O'], [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[4.594, 4.594, 2.959, 90, 90, 90]
    ),
    'wurtzite': lambda: bulk('ZnO', 'wurtzite', a=3.250, c=5.207),
    'baddeleyite': lambda: crystal(
        ['Zr', 'O', 'O'],
        [(0.2754, 0.0395, 0.2083), (0.0700, 0.3317, 0.3447), (0.4496, 0.7569, 0.4792)],
        spacegroup=14,
        cellpar=[5.1505, 5.2116, 5.3173, 90, 99.23, 90],
    ),
}
"""Crystals with symmetry. It fixes every site of the first six."""


def rattled(seed: int = 0, scale: float = 0.15) -> list[Atoms]:
    """Return crystals without any symmetry left."""
    frames = [PROTOTYPES[name]() for name in ('zinc blende', 'wurtzite', 'rutile')]
    rng = np.random.default_rng(seed)
    for atoms in frames:
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.05 * rng.normal(size=(3, 3))), scale_atoms=True)
        atoms.rattle(scale, rng=rng)
    return frames


def batch_of(*frames: Atoms) -> Crystals:
    """Return ASE structures as one batch."""
    return make_crystals(
        [a.numbers for a in frames],
        [a.positions for a in frames],
        [a.cell.array for a in frames],
        pbc=[a.pbc for a in frames],
    )
