"""How close two atoms can be: bounds between a broken file and a crystal that is not relaxed yet."""

from __future__ import annotations

from collections.abc import Sequence

SMALLEST_DISTANCE = 0.7
"""Atoms closer than this (A) are on top of each other: the shortest bond there is, that of H2, has 0.74 A.

No bound by the elements' radii stands beside it, since hypothetical crystals do break such. Of 28,859 unrelaxed ones,
most with another compound's lattice constants, 5 have atoms closer than 0.7 A, and 347 of the 9,201 pnictides
among them closer than half the sum of their covalent radii, such as Cs - Cs at 1.2 A: these relax to sound crystals."""

SMALLEST_VOLUME = 1.0
"""In A^3 per atom, of a cell that holds its atoms at all: the densest element, carbon in diamond, has 5.7."""


def describe_overlap(sites: Sequence[str], distance: float) -> str:
    """Return the message on two sites, in words such as `As 0`, that are `distance` A apart."""
    first, second = sites
    expected = f'{distance:.3g} A apart, expected at least {SMALLEST_DISTANCE:g} A'
    if first == second:
        return f'the site {first} and its periodic image are {expected}; look for other units or a lost digit'
    return (
        f'the sites {first} and {second} are {expected}; look for sites listed twice, or a space group in another '
        'setting than that of its coordinates'
    )
