"""What is wrong with a crystal, structure by structure, before and after the network sees it."""

from __future__ import annotations

import numpy as np

from aiida_e3relax.gnn.structures import Crystals

SMALLEST_DISTANCE = 0.4
"""Atoms closer than this (A) are on top of each other: less than half the shortest bond, H2's 0.74 A, is left."""

SMALLEST_VOLUME = 1.0
"""Cells smaller than this (A^3 per atom) are singular: the densest element, carbon in diamond, has 5.7."""

Fault = tuple[str, str]
"""A status word and a message."""


def input_faults(crystals: Crystals, elements: list[int]) -> dict[int, Fault]:
    """Return the faults, by structure index, that show before a neighbour search.

    Parameters
    ----------
    crystals
        The input.
    elements
        Atomic numbers that the model was trained on.
    """
    faults: dict[int, Fault] = {}
    offsets = crystals.offsets
    for index in range(len(crystals)):
        atoms = slice(offsets[index], offsets[index + 1])
        numbers, cell = crystals.numbers[atoms], crystals.cell[index]
        unknown = sorted(set(numbers.tolist()) - set(elements))
        volume = abs(np.linalg.det(cell)) if np.isfinite(cell).all() else 0.0
        if not len(numbers):
            faults[index] = 'empty', 'the structure holds no atoms'
        elif not (np.isfinite(crystals.positions[atoms]).all() and np.isfinite(cell).all()):
            faults[index] = 'not_finite', 'positions or cell hold NaN or infinite numbers'
        elif unknown:
            names = ', '.join(f'Z={z}' for z in unknown)
            faults[index] = (
                'unknown_element',
                f'the model was not trained on {names}: see its model card for the elements',
            )
        elif not crystals.pbc[index].any():
            faults[index] = 'not_periodic', 'the structure is periodic in no direction: the model predicts crystals'
        elif volume < SMALLEST_VOLUME * len(numbers):
            faults[index] = 'singular_cell', f'the cell volume of {volume:.3g} A^3 holds no {len(numbers)} atom(s)'
    return faults


def neighbour_faults(
    shortest: np.ndarray, neighbours: np.ndarray, crystals: Crystals, cutoff: float
) -> dict[int, Fault]:
    """Return the faults, by structure index, that the neighbour search shows.

    Parameters
    ----------
    shortest, neighbours
        ``(A,)`` distance to the nearest neighbour in A (infinite without one), and number of neighbours of each atom.
    crystals
        The structures searched.
    cutoff
        Radius of the search in A.
    """
    faults: dict[int, Fault] = {}
    offsets = crystals.offsets
    for index in range(len(crystals)):
        atoms = slice(offsets[index], offsets[index + 1])
        if shortest[atoms].min() < SMALLEST_DISTANCE:
            faults[index] = 'overlapping_atoms', f'two atoms are {shortest[atoms].min():.3f} A apart'
        elif (neighbours[atoms] == 0).any():
            site = int(np.flatnonzero(neighbours[atoms] == 0)[0])
            faults[index] = 'no_neighbours', f'site {site} has no neighbour within {cutoff:g} A'
    return faults
