"""Classes of prototypes that can be held out, with what distortions make of them."""

from __future__ import annotations

import numpy as np

from aiida_e3relax.crystals.neighbours import pairs_within
from aiida_e3relax.crystals.structures import Crystals

PEROVSKITES = 'perovskites'

BEGINNINGS = {'matlockites': '129:1-1-1:', 'spinels': '227:1-2-4:', 'half-Heuslers': '216:1-1-1:'}
"""How the names of the prototypes of other classes begin, the inverse compounds among them."""

PROTOTYPE_CLASSES = (PEROVSKITES, *BEGINNINGS)
"""The names of the classes."""

REACH = 2.2
"""Of an octahedron's corners, in sides of the cube that an atom has: a long bond of a polar one is 1.3."""

LEAST_ANGLE = 65.0
"""In degrees, between two corners of an octahedron; six around an atom in a plane are 60 apart."""


def prototype_class_of(crystal: Crystals, prototype: str) -> str:
    """Return the class of prototypes that one crystal, whose own is `prototype`, is of; empty where of none."""
    if _is_perovskite(crystal):
        return PEROVSKITES
    return next((name for name, beginning in BEGINNINGS.items() if prototype.startswith(beginning)), '')


def _is_perovskite(crystal: Crystals) -> bool:
    """Return whether one crystal ABX3 is a network of octahedra that share corners alone, whatever its symmetry.

    Tilts, polar shifts and Jahn-Teller distortions lower the symmetry to that of many subgroups, and leave the network.
    """
    elements, counts = np.unique(crystal.numbers, return_counts=True)
    order = np.argsort(counts)
    if len(elements) != 3 or (counts[order] != counts.min() * np.array([1, 1, 3])).any():
        return False
    return any(_share_corners(crystal, int(elements[kind]), int(elements[order[2]])) for kind in order[:2])


def _share_corners(crystal: Crystals, centre: int, corner: int) -> bool:
    """Return whether each corner is among the nearest six of two centres, in octahedra that share no edge."""
    reach = REACH * (abs(crystal.volumes[0]) / len(crystal.numbers)) ** (1 / 3)
    first, second, offset, distance = pairs_within(crystal, reach)
    wanted = (crystal.numbers[first] == centre) & (crystal.numbers[second] == corner)
    first, second, offset, distance = (values[wanted] for values in (first, second, offset, distance))
    centres_of: dict[int, list[tuple[int, ...]]] = {}
    for atom in np.flatnonzero(crystal.numbers == centre).tolist():
        own = np.flatnonzero(first == atom)
        own = own[np.argsort(distance[own], kind='stable')][:6]
        bonds = crystal.positions[second[own]] + offset[own] @ crystal.cell[0] - crystal.positions[atom]
        bonds /= distance[own, None]
        if len(own) < 6 or (bonds @ bonds.T - 2 * np.eye(6)).max() > np.cos(np.radians(LEAST_ANGLE)):
            return False
        for link in own.tolist():
            centres_of.setdefault(int(second[link]), []).append((atom, *(-offset[link]).tolist()))
    edges = set()
    for ends in centres_of.values():
        if len(ends) != 2:
            return False
        (atom, *cell), (other, *away) = sorted(ends)
        step = tuple(int(b - a) for a, b in zip(cell, away, strict=True))
        if atom == other:
            step = max(step, tuple(-n for n in step))
        edges.add((atom, other, step))
    return len(edges) == len(centres_of) == (crystal.numbers == corner).sum()
