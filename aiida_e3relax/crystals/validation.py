"""Faults of crystals, structure by structure, before and after the prediction."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.crystals.cells import FURTHEST, reduction
from aiida_e3relax.crystals.contacts import SMALLEST_DISTANCE, SMALLEST_VOLUME, describe_overlap
from aiida_e3relax.crystals.structures import Crystals

CrystalFault = tuple[str, str]
"""A status word and a message."""


@dataclasses.dataclass(frozen=True)
class Nearest:
    """The nearest neighbour of each of A atoms.

    Attributes
    ----------
    distance
        ``(A,)`` to the nearest neighbour, in A; infinite without one.
    neighbour
        ``(A,)`` that neighbour, where it is closer than `SMALLEST_DISTANCE`.
    neighbours
        ``(A,)`` number of neighbours.
    """

    distance: NDArray[np.float64]
    neighbour: NDArray[np.int64]
    neighbours: NDArray[np.int64]


def input_faults(crystals: Crystals, elements: Sequence[int]) -> dict[int, CrystalFault]:
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
    rest = np.flatnonzero(sound)
    with np.errstate(divide='ignore'):  # of vectors so short that their product is 0
        sound[rest] = np.abs(np.linalg.det(cell[rest])) >= SMALLEST_VOLUME * crystals.n_atoms[rest]
    rest = np.flatnonzero(sound)
    sound[rest] = shortest_lattice_vectors(cell[rest]) >= SMALLEST_DISTANCE
    return sound


def geometry_fault(crystal: Crystals) -> CrystalFault | None:
    """Return what is wrong with the geometry of one crystal; None where `has_sound_geometry` says that it is sound."""
    cell, count = crystal.cell, len(crystal.numbers)
    if not count:
        return 'empty', 'the structure holds no atoms'
    if not (np.isfinite(crystal.positions).all() and np.isfinite(cell).all()):
        return 'not_finite', 'positions or cell hold NaN or infinite numbers'
    for name, values in (('position', crystal.positions), ('lattice vector', cell)):
        if (largest := np.abs(values).max()) > FURTHEST:
            message = f'a {name} has a coordinate of {largest:.3g} A, expected at most {FURTHEST:g}'
            return 'out_of_range', f'{message}; look for other units, or reduce the cell'
    volume = abs(float(crystal.volumes[0]))
    if volume < SMALLEST_VOLUME * count:
        return 'singular_cell', f'the cell volume of {volume:.3g} A^3 holds no {count} atom(s)'
    if (shortest := float(shortest_lattice_vectors(cell)[0])) < SMALLEST_DISTANCE:
        return 'overlapping_atoms', describe_overlap([_name(crystal, 0)] * 2, shortest)
    return None


def shortest_lattice_vectors(cell: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ``(S,)`` lengths in A of the shortest vectors of the lattices of cells ``(S, 3, 3)``."""
    return np.linalg.norm(reduction(cell) @ cell, axis=2).min(axis=1)


def neighbour_faults(nearest: Nearest, crystals: Crystals, cutoff: float) -> dict[int, CrystalFault]:
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
    faults: dict[int, CrystalFault] = {}
    bad = (nearest.distance < SMALLEST_DISTANCE) | (nearest.neighbours == 0)
    for index in np.unique(crystals.structure_index[bad]).tolist():
        first = int(crystals.offsets[index])
        atoms = slice(first, first + int(crystals.n_atoms[index]))
        if (nearest.distance[atoms] < SMALLEST_DISTANCE).any():
            site = first + int(nearest.distance[atoms].argmin())
            names = sorted(_name(crystals, atom, first) for atom in (site, int(nearest.neighbour[site])))
            faults[index] = 'overlapping_atoms', describe_overlap(names, float(nearest.distance[site]))
        else:
            site = int(np.flatnonzero(nearest.neighbours[atoms] == 0)[0])
            faults[index] = 'no_neighbours', f'site {site} has no neighbour within {cutoff:g} A'
    return faults


def _has_all(crystals: Crystals, of_atoms: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return ``(S,)`` whether something holds for all atoms of a crystal."""
    return np.bincount(crystals.structure_index[~of_atoms], minlength=len(crystals)) == 0


def _input_fault(crystal: Crystals, elements: Sequence[int]) -> CrystalFault:
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
