"""Displacements and strain between two geometries of a crystal, and its closest atoms. Each `Crystals` holds one."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.crystals.cells import reduction, shifted_to_nearest_image
from aiida_e3relax.crystals.contacts import SMALLEST_DISTANCE, describe_overlap
from aiida_e3relax.crystals.neighbours import pairs_within
from aiida_e3relax.crystals.structures import Crystals, pymatgen_structure
from aiida_e3relax.crystals.validation import has_sound_geometry

CONTACT_SEARCH_RATIO = 1.5

SITE_TOLERANCE = 0.3
"""Of `StructureMatcher`, in units of the cube root of the volume per atom."""

LENGTH_TOLERANCE = 0.2
"""Of `StructureMatcher`, relative to a lattice vector."""

MOST_LATTICE_POINTS = 10**5
"""Of a cell's lattice, within its longest vector: `StructureMatcher` tries every three of them."""


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
    difference = shifted_to_nearest_image(difference, end.cell, end.structure_index)
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

    None where no pair comes within `CONTACT_SEARCH_RATIO` times the sum of its covalent radii. Raises ValueError as
    `pairs_within` does.
    """
    from ase.data import covalent_radii

    radii = covalent_radii[crystal.numbers]
    first, second, _, distance = pairs_within(crystal, 2 * CONTACT_SEARCH_RATIO * float(radii.max()))
    ratio = distance / (radii[first] + radii[second])
    if not (ratio < CONTACT_SEARCH_RATIO).any():
        return None
    pair = ratio.argmin()
    names = ' - '.join(_site_name(crystal, atom) for atom in (first[pair], second[pair]))
    return Contact(ratio=float(ratio[pair]), distance=float(distance[pair]), atoms=names)


def find_overlap(crystal: Crystals) -> str | None:
    """Return a message where the closest two sites of a sound crystal are on top of each other, else None.

    Raises ValueError as `pairs_within` does.
    """
    first, second, _, distance = pairs_within(crystal, SMALLEST_DISTANCE)
    if not len(distance):
        return None
    pair = distance.argmin()
    names = (_site_name(crystal, atom) for atom in (first[pair], second[pair]))
    return describe_overlap(sorted(names), float(distance[pair]))


def is_same_crystal(first: Crystals, second: Crystals) -> bool:
    """Return whether pymatgen's `StructureMatcher` with its defaults maps one crystal on the other.

    A crystal in a needle or a sheet of a cell, where that would take too long, is compared site by site by the same
    tolerances. One that is not sound is the same as no other.
    """
    from pymatgen.analysis.structure_matcher import StructureMatcher

    if not all(has_sound_geometry(crystal).all() for crystal in (first, second)):
        return False
    if max(_lattice_points(first), _lattice_points(second)) > MOST_LATTICE_POINTS:
        return _has_same_sites(first, second)
    return bool(StructureMatcher().fit(pymatgen_structure(first, 0), pymatgen_structure(second, 0)))


def _lattice_points(crystal: Crystals) -> float:
    """Return about how many points of a crystal's lattice lie within the tolerated length of its longest vector."""
    reduced = (reduction(crystal.cell) @ crystal.cell)[0]
    longest = (1 + LENGTH_TOLERANCE) * np.linalg.norm(reduced, axis=1).max()
    return float(4 / 3 * np.pi * longest**3 / abs(np.linalg.det(reduced)))


def _has_same_sites(first: Crystals, second: Crystals) -> bool:
    if first.numbers.tolist() != second.numbers.tolist():
        return False
    if np.abs(principal_strains(first, second)).max() > LENGTH_TOLERANCE:
        return False
    size = np.cbrt(abs(float(second.volumes[0])) / len(second.numbers))
    return bool(np.linalg.norm(displacements(first, second), axis=1).max() <= SITE_TOLERANCE * size)


def _site_name(crystal: Crystals, atom: int) -> str:
    from ase.data import chemical_symbols

    return f'{chemical_symbols[crystal.numbers[atom]]} {atom}'
