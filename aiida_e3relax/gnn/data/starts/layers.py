"""A layer cut out of a layered crystal, with vacuum over it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.crystals.freedom.connectivity import find_networks
from aiida_e3relax.crystals.freedom.vacuum import find_gap
from aiida_e3relax.crystals.neighbours import pairs_within
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.gnn.data.starts.library import as_crystals

if TYPE_CHECKING:
    from pymatgen.core import Structure

LONGEST_BOND = 1.3
"""Of a bond, in sums of covalent radii: across the gap of a van der Waals crystal atoms are 1.5 of them apart."""

VACUUM = 15.0
"""In A, over the layer."""


def cut_layer(structure: Structure) -> Structure | None:
    """Return one layer of a crystal that bonds join in two directions alone, None for any other.

    Its a and b span the plane, c is normal to it and leaves `VACUUM` A empty.
    """
    from pymatgen.core import Lattice, Structure

    crystal = as_crystals([structure])
    networks = find_networks(len(structure), *_bonds(crystal))
    normal = networks.normal[0]
    if not (networks.dimension == 2).all() or np.cross(networks.normal, normal).any():  # (0, 0, -1) is (0, 0, 1)
        return None
    plane = _plane(normal, crystal.cell[0])
    if plane is None:
        return None
    own = np.flatnonzero(networks.root == 0)
    positions = crystal.positions[own] + networks.image[own] @ crystal.cell[0]
    upward = np.cross(*plane)
    upward /= np.linalg.norm(upward)
    heights = positions @ upward
    height = np.ptp(heights) + VACUUM
    positions = positions + (height / 2 - (heights.min() + heights.max()) / 2) * upward
    cell = np.vstack([plane, height * upward])
    species = [structure[int(site)].specie for site in own]
    layer = Structure(Lattice(cell), species, positions, coords_are_cartesian=True, to_unit_cell=True)
    gap = find_gap(as_crystals([layer]))
    return layer if gap is not None and gap.open_axes == [2] else None


def _bonds(crystal: Crystals) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return first and second atom, and the cell of the second, of the bonds of one crystal."""
    from ase.data import covalent_radii

    radii = covalent_radii[crystal.numbers]
    first, second, offset, distance = pairs_within(crystal, 2 * LONGEST_BOND * float(radii.max()))
    near = distance < LONGEST_BOND * (radii[first] + radii[second])
    return first[near], second[near], offset[near]


def _plane(normal: NDArray[np.int64], cell: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return two short lattice vectors ``(2, 3)``, in A, that span the lattice plane with Miller `normal`."""
    steps = np.array([step for step in itertools.product(range(-3, 4), repeat=3) if any(step)])
    steps = steps[steps @ normal == 0]
    steps = steps[np.argsort(np.linalg.norm(steps @ cell, axis=1), kind='stable')]
    for first, second in itertools.combinations(steps, 2):
        if np.array_equal(np.abs(np.cross(first, second)), np.abs(normal)):
            return np.array([first, second]) @ cell
    return None
