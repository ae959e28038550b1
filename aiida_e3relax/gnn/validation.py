"""What is wrong with a crystal, structure by structure, before and after the network sees it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.crystals.cells import FURTHEST, reduction
from aiida_e3relax.crystals.contacts import SMALLEST_VOLUME, smallest_distances, tell_overlap
from aiida_e3relax.gnn.structures import MAX_ATOMIC_NUMBER, Crystals

Fault = tuple[str, str]
"""A status word and a message."""


@dataclasses.dataclass(frozen=True)
class Nearest:
    """What a neighbour search tells of A atoms.

    Attributes
    ----------
    ratio
        ``(A,)`` smallest distance to a neighbour over what the two elements allow at least; infinite without one.
    neighbour
        ``(A,)`` that neighbour, where `ratio` is below 1.
    neighbours
        ``(A,)`` number of neighbours.
    """

    ratio: NDArray[np.float64]
    neighbour: NDArray[np.int64]
    neighbours: NDArray[np.int64]


def input_faults(crystals: Crystals, elements: Sequence[int]) -> dict[int, Fault]:
    """Return the faults, by structure index, that show before a neighbour search.

    Parameters
    ----------
    crystals
        The input.
    elements
        Atomic numbers that the model was trained on.
    """
    known = np.isin(crystals.numbers, elements)
    bad = ~_has_all(crystals, known) | ~crystals.pbc.any(axis=1) | ~has_sound_geometry(crystals)
    return {index: _input_fault(crystals.select([index]), elements) for index in np.flatnonzero(bad).tolist()}


def has_sound_geometry(crystals: Crystals) -> NDArray[np.bool_]:
    """Return ``(S,)`` whether each crystal has finite coordinates within bounds, and a cell with room for its atoms.

    In a sound one a neighbour search ends, however the cell is chosen, and no number is too large to compute with.
    """
    cell = crystals.cell
    sound = _has_all(crystals, np.abs(crystals.positions).max(axis=1) <= FURTHEST)  # NaN is not
    sound &= (np.abs(cell) <= FURTHEST).all(axis=(1, 2)) & (crystals.n_atoms > 0)
    kept = np.flatnonzero(sound)
    sound[kept] = np.abs(np.linalg.det(cell[kept])) >= SMALLEST_VOLUME * crystals.n_atoms[kept]
    kept = np.flatnonzero(sound)
    largest = np.zeros(len(crystals))
    known = crystals.numbers.clip(0, MAX_ATOMIC_NUMBER)
    np.maximum.at(largest, crystals.structure_index, smallest_distances(known, known))
    sound[kept] = shortest_lattice_vectors(cell[kept]) >= largest[kept]
    return sound


def geometry_fault(crystal: Crystals) -> Fault | None:
    """Return what is wrong with the geometry of one crystal; None where `has_sound_geometry` says that it is sound."""
    numbers, cell = crystal.numbers.clip(0, MAX_ATOMIC_NUMBER), crystal.cell
    if not len(numbers):
        return 'empty', 'the structure holds no atoms'
    if not (np.isfinite(crystal.positions).all() and np.isfinite(cell).all()):
        return 'not_finite', 'positions or cell hold NaN or infinite numbers'
    for name, values in (('position', crystal.positions), ('lattice vector', cell)):
        if (largest := np.abs(values).max()) > FURTHEST:
            message = f'a {name} has a coordinate of {largest:.3g} A, expected at most {FURTHEST:g}'
            return 'out_of_range', f'{message}; look for other units, or reduce the cell'
    volume = abs(float(np.linalg.det(cell[0])))
    if volume < SMALLEST_VOLUME * len(numbers):
        return 'singular_cell', f'the cell volume of {volume:.3g} A^3 holds no {len(numbers)} atom(s)'
    smallest = smallest_distances(numbers, numbers)
    site, shortest = int(smallest.argmax()), float(shortest_lattice_vectors(cell)[0])
    if shortest < smallest[site]:
        return 'overlapping_atoms', tell_overlap([_name(crystal, site)] * 2, shortest, smallest[site])
    return None


def shortest_lattice_vectors(cell: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ``(S,)`` lengths in A of the shortest vectors of the lattices of cells ``(S, 3, 3)``."""
    return np.linalg.norm(reduction(cell) @ cell, axis=2).min(axis=1)


def neighbour_faults(nearest: Nearest, crystals: Crystals, cutoff: float) -> dict[int, Fault]:
    """Return the faults, by structure index, that the neighbour search shows.

    Parameters
    ----------
    nearest
        What it found.
    crystals
        The structures searched.
    cutoff
        Radius of the search in A.
    """
    faults: dict[int, Fault] = {}
    bad = (nearest.ratio < 1.0) | (nearest.neighbours == 0)
    for index in np.unique(crystals.structure_index[bad]).tolist():
        first = int(crystals.offsets[index])
        atoms = slice(first, first + int(crystals.n_atoms[index]))
        if (nearest.ratio[atoms] < 1.0).any():
            site = int(nearest.ratio[atoms].argmin())
            pair = [first + site, int(nearest.neighbour[first + site])]
            smallest = float(smallest_distances(*crystals.numbers[pair]))
            names = sorted(_name(crystals, atom, first) for atom in pair)
            message = tell_overlap(names, float(nearest.ratio[first + site]) * smallest, smallest)
            faults[index] = 'overlapping_atoms', message
        else:
            site = int(np.flatnonzero(nearest.neighbours[atoms] == 0)[0])
            faults[index] = 'no_neighbours', f'site {site} has no neighbour within {cutoff:g} A'
    return faults


def _has_all(crystals: Crystals, of_atoms: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return ``(S,)`` whether something holds for all atoms of a crystal."""
    return np.bincount(crystals.structure_index[~of_atoms], minlength=len(crystals)) == 0


def _input_fault(crystal: Crystals, elements: Sequence[int]) -> Fault:
    geometry = geometry_fault(crystal)
    if geometry and geometry[0] in ('empty', 'not_finite'):
        return geometry
    if unknown := sorted(set(crystal.numbers.tolist()) - set(elements)):
        names = ', '.join(f'Z={z}' for z in unknown)
        return 'unknown_element', f'the model was not trained on {names}: see its model card for the elements'
    if not crystal.pbc.any():
        return 'not_periodic', 'the structure is periodic in no direction: the model predicts crystals'
    return geometry or ('singular_cell', 'the cell cannot be computed with')


def _name(crystals: Crystals, atom: int, first: int = 0) -> str:
    return f'{atom - first} (Z={crystals.numbers[atom]})'
