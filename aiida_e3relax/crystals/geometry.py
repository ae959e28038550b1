"""What lies between two geometries of one crystal, and how close its atoms come. Each `Crystals` here holds one."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.gnn.pairs import nearest_image
from aiida_e3relax.gnn.structures import Crystals, pymatgen_structure

CONTACT_SEARCH_RATIO = 1.5


@dataclasses.dataclass(frozen=True)
class Contact:
    """The closest pair of atoms, measured by their covalent radii.

    Attributes
    ----------
    ratio
        Distance over the sum of the two covalent radii.
    distance
        In A.
    atoms
        The pair in words, such as `Ga 0 - As 1`; both are the same for an atom and its own image.
    """

    ratio: float
    distance: float
    atoms: str


def fractional_displacements(start: Crystals, end: Crystals) -> NDArray[np.float64]:
    """Return the ``(N, 3)`` fractional displacements of the sites, by the nearest image, without the common shift.

    The shift is removed twice: its circular mean before the nearest image is taken, so that a crystal shifted by half
    a cell is not torn apart, and the mean that then remains.
    """
    difference = end.fractional() - start.fractional()
    difference -= np.angle(np.exp(2j * np.pi * difference).mean(axis=0)) / (2 * np.pi)
    difference = nearest_image(difference, end.cell[end.structure_index])
    return difference - difference.mean(axis=0)


def displacements(start: Crystals, end: Crystals) -> NDArray[np.float64]:
    """Return the ``(N, 3)`` displacements of the sites in A in the cell of `end`, without the common shift."""
    return fractional_displacements(start, end) @ end.cell[0]


def principal_strains(start: Crystals, end: Crystals) -> NDArray[np.float64]:
    """Return the ``(3,)`` principal strains from one cell to the other, ascending: 0.1 is a stretch by 10 %.

    They are the singular values of the deformation less one: a rotation between the two frames does not count.
    """
    deformation = np.linalg.solve(start.cell[0], end.cell[0])
    return np.sort(np.linalg.svd(deformation, compute_uv=False)) - 1.0


def closest_contact(crystal: Crystals) -> Contact | None:
    """Return the closest pair of atoms, periodic images of one atom included.

    None where no pair comes within `CONTACT_SEARCH_RATIO` times the sum of its covalent radii.
    """
    from ase.data import chemical_symbols, covalent_radii
    from ase.neighborlist import primitive_neighbor_list

    radii = covalent_radii[crystal.numbers]
    first, second, distance = primitive_neighbor_list(
        'ijd', [True] * 3, crystal.cell[0], crystal.positions, CONTACT_SEARCH_RATIO * radii
    )
    if not len(distance):
        return None
    ratio = distance / (radii[first] + radii[second])
    pair = ratio.argmin()
    names = ' - '.join(f'{chemical_symbols[crystal.numbers[atom]]} {atom}' for atom in (first[pair], second[pair]))
    return Contact(ratio=float(ratio[pair]), distance=float(distance[pair]), atoms=names)


def is_same_crystal(first: Crystals, second: Crystals) -> bool:
    """Return whether pymatgen's `StructureMatcher` with its defaults maps one crystal on the other."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    return bool(StructureMatcher().fit(pymatgen_structure(first, 0), pymatgen_structure(second, 0)))
