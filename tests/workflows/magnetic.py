"""Magnetic crystals for the tests, from published lattice constants."""

from __future__ import annotations

import numpy as np
from aiida import orm
from ase.spacegroup import crystal


def magnetite() -> orm.StructureData:
    """Ferrimagnetic Fe3O4 in its primitive cell: Fe1 in the tetrahedra, Fe2 in the octahedra, kinds not grouped."""
    sites = [(1 / 8, 1 / 8, 1 / 8), (1 / 2, 1 / 2, 1 / 2), (0.2548, 0.2548, 0.2548)]
    atoms = crystal(
        ['Fe', 'Fe', 'O'], sites, spacegroup=227, setting=2, cellpar=[8.3941] * 3 + [90] * 3, primitive_cell=True
    )
    tags = np.where(atoms.numbers == 8, 0, np.where(np.arange(len(atoms)) < 2, 1, 2))
    structure = orm.StructureData(cell=atoms.cell.array)
    order = [2, 6, 7, 0, 3, 8, 9, 10, 1, 4, 5, 11, 12, 13]
    for site in order:
        symbol = atoms[site].symbol
        name = f'{symbol}{tags[site]}' if tags[site] else symbol
        structure.append_atom(position=atoms.positions[site], symbols=symbol, name=name)
    return structure


def manganese_nitride() -> orm.StructureData:
    """MnN with antiferromagnetic planes along c; species alternate, and an atom is off its site."""
    a, c = 4.256 / np.sqrt(2), 4.189
    structure = orm.StructureData(cell=np.diag([a, a, c]))
    for name, position in {'Mn1': (0, 0, 0), 'N': (0.5, 0.5, 0.03), 'Mn2': (0.5, 0.5, 0.5)}.items():
        structure.append_atom(position=position * np.array([a, a, c]), symbols=name.rstrip('12'), name=name)
    structure.append_atom(position=(0, 0, c / 2), symbols='N', name='N')
    return structure
