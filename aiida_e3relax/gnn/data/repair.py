"""Repair of pairs, one by one: those that cannot be repaired are rejected with the reason, repairs are counted."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from aiida_e3relax.crystals.cells import FURTHEST, shifted_to_nearest_image, widths
from aiida_e3relax.crystals.contacts import SMALLEST_DISTANCE, SMALLEST_VOLUME
from aiida_e3relax.crystals.pairs import Pairs, aligned, mean_shift
from aiida_e3relax.crystals.structures import MAX_ATOMIC_NUMBER, make_crystals
from aiida_e3relax.crystals.validation import geometry_fault
from aiida_e3relax.gnn.data.sources.base import Sites, UnusableError

DRIFT_NOTED, ROTATION_NOTED = 1e-3, 0.1
"""A drift above this (A) or a rotation above this (degrees) counts as taken out; smaller ones are rounding."""

SAME_CELL = 1e-6
"""Cells whose principal stretches differ from 1 by less are the same: digits of the files."""

CLEAR_RATIO = 0.5
"""A site's partner is clear when it is nearer than this fraction of the distance to the next of its species."""


@dataclasses.dataclass(frozen=True)
class RepairOptions:
    """Which repairs are made; all but one by default.

    Attributes
    ----------
    reorder
        Bring relaxed sites into the order of the unrelaxed ones where species are ordered differently and each site has
        one clear partner.
    mirror
        Mirror relaxed crystals whose cell has the other handedness.
    drift, rotation
        Take the rigid shift of all atoms, and the rotation between the two frames, out of the relaxed crystal.
    match_sites
        Reorder where the species are in order, too: sites of one species may have changed places in the files. Off by
        default, as a site may really relax further than to its neighbour's place.
    """

    reorder: bool = True
    mirror: bool = True
    drift: bool = True
    rotation: bool = True
    match_sites: bool = False


def repaired(before: Sites, after: Sites, options: RepairOptions) -> tuple[Sites, list[str]]:
    """Return the relaxed crystal in the order and handedness of the unrelaxed one, and the names of the steps taken.

    The relaxed crystal knows what is `fixed` in the pair, by what the files of both say. Where none says whether the
    cell is, a cell that stays the same to the digits of the files is, if atoms are fixed or there is a vacuum.

    Raises
    ------
    UnusableError
        For crystals that are not finite or have no volume, for other species, where the site order differs and cannot
        be found, or may not be changed, and where the files fix different sites.
    """
    for stage, crystal in (('unrelaxed', before), ('relaxed', after)):
        _check_crystal(stage, crystal)
    steps = []
    if sorted(before.numbers) != sorted(after.numbers):
        raise UnusableError(f'species differ: {formula(before.numbers)} and {formula(after.numbers)}')
    differs = not np.array_equal(before.numbers, after.numbers)
    if differs and not options.reorder:
        raise UnusableError('site order differs')
    if differs or options.match_sites:
        here, there = before.positions @ np.linalg.inv(before.cell), after.positions @ np.linalg.inv(after.cell)
        order, is_clear = site_order(before.numbers, here, after.numbers, there, after.cell)
        if differs and not is_clear:
            raise UnusableError('site order differs, and which site became which is not clear')
        if is_clear and not np.array_equal(order, np.arange(len(order))):
            after = after._replace(
                numbers=after.numbers[order],
                positions=after.positions[order],
                fixed=None if after.fixed is None else after.fixed[order],
            )
            steps.append('site order')
    if np.linalg.det(before.cell) * np.linalg.det(after.cell) < 0:
        if not options.mirror:
            raise UnusableError('cells of opposite handedness')
        flip = np.array([1.0, 1.0, -1.0])
        after = after._replace(positions=after.positions * flip, cell=after.cell * flip)
        steps.append('mirror image')
    return after._replace(fixed=_fixed(before, after), fixed_cell=_has_fixed_cell(before, after)), steps


def _fixed(before: Sites, after: Sites) -> NDArray[np.bool_] | None:
    """Return the fixed coordinates ``(N, 3)`` of a pair; the relaxed crystal's file may leave out what is fixed."""
    if before.fixed is None or after.fixed is None:
        return after.fixed if before.fixed is None else before.fixed
    differing = np.flatnonzero((before.fixed != after.fixed).any(axis=1))
    if len(differing):
        raise UnusableError(
            f'fixed sites differ: of {len(differing)} sites, such as {differing[0]}, one file says other'
        )
    return before.fixed


def _has_fixed_cell(before: Sites, after: Sites) -> bool:
    stated = [crystal.fixed_cell for crystal in (before, after) if crystal.fixed_cell is not None]
    if stated:
        return all(stated)
    fixes = any(crystal.fixed is not None and crystal.fixed.any() for crystal in (before, after))
    if not fixes and before.pbc.all():
        return False
    stretches = np.linalg.svd(np.linalg.solve(before.cell, after.cell), compute_uv=False)
    return bool(np.abs(stretches - 1).max() < SAME_CELL)


def _check_crystal(stage: str, crystal: Sites) -> None:
    if not len(crystal.numbers):
        raise UnusableError(f'the {stage} crystal has no atoms')
    if crystal.numbers.min() < 1 or crystal.numbers.max() > MAX_ATOMIC_NUMBER:
        raise UnusableError(f'the {stage} crystal has no elements: atomic numbers {np.unique(crystal.numbers)[:8]}')
    with np.errstate(invalid='ignore'):
        wide = widths(crystal.cell[None]).min() >= SMALLEST_DISTANCE  # then no lattice vector is too short
        within = all((np.abs(values) <= FURTHEST).all() for values in (crystal.cell, crystal.positions))
        volume = abs(np.linalg.det(crystal.cell))
    if wide and within and volume >= SMALLEST_VOLUME * len(crystal.numbers):
        return
    fault = geometry_fault(make_crystals([crystal.numbers], [crystal.positions], [crystal.cell]))
    if fault:
        raise UnusableError(f'the {stage} crystal is not sound: {fault[1]}')


def site_order(
    numbers: NDArray[np.int64],
    here: NDArray[np.float64],
    numbers_there: NDArray[np.int64],
    there: NDArray[np.float64],
    cell: NDArray[np.float64],
) -> tuple[NDArray[np.int64], bool]:
    """Return which relaxed site each unrelaxed site became, by the smallest sum of distances, and whether it is clear.

    It is where every partner is nearer than `CLEAR_RATIO` of the distance to any other of its species.

    Parameters
    ----------
    numbers, here
        Atomic numbers ``(N,)`` and fractional coordinates ``(N, 3)`` of the unrelaxed sites.
    numbers_there, there, cell
        Those of the relaxed sites, and their cell ``(3, 3)`` in A, in which distances to nearest images are measured.
    """
    order, is_clear = np.zeros(len(here), dtype=np.int64), True
    for number in np.unique(numbers):
        rows, columns = np.flatnonzero(numbers == number), np.flatnonzero(numbers_there == number)
        pairs = np.repeat(rows, len(columns)), np.tile(columns, len(rows))
        distance = site_distances(here[pairs[0]], there[pairs[1]], cell).reshape(len(rows), len(columns))
        _, partner = linear_sum_assignment(distance)
        own = distance[np.arange(len(rows)), partner]
        others = distance.copy()
        others[np.arange(len(rows)), partner] = np.inf
        is_clear &= bool((own <= CLEAR_RATIO * np.minimum(others.min(axis=1), others.min(axis=0)[partner])).all())
        order[rows] = columns[partner]
    return order, is_clear


def site_distances(
    here: NDArray[np.float64], there: NDArray[np.float64], cell: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the distances ``(N,)``, in A, between sites of fractional coordinates ``(N, 3)`` to nearest images."""
    nearest = shifted_to_nearest_image(there - here, cell[None], np.zeros(len(here), dtype=np.int64))
    return np.linalg.norm(nearest @ cell, axis=1)


def aligned_in_frame(pairs: Pairs, options: RepairOptions) -> tuple[Pairs, dict[str, int]]:
    """Return `pairs` with their relaxed crystals in the frame of the unrelaxed ones, and how many each step touched.

    Atoms are always taken at their nearest image: that changes how a crystal is written, not the crystal.
    """
    before, after = pairs.unrelaxed, pairs.relaxed
    result = aligned(pairs, options.drift, options.rotation)
    crystal = before.structure_index
    difference = after.fractional() - before.fractional()
    shift = mean_shift(difference, pairs)
    moved = result.relaxed.fractional() - before.fractional()
    moved -= np.where(pairs.anchored, 0.0, before.mean_over_atoms(moved))[crystal]
    images = np.abs(difference - shift[crystal] - moved).max(axis=1) > 0.5
    drift = np.linalg.norm(np.einsum('sc,scx->sx', shift, after.cell), axis=1)
    counts = {'nearest image': int((np.bincount(crystal, images, len(pairs)) > 0).sum())}
    if options.drift:
        counts['drift'] = int((drift > DRIFT_NOTED).sum())
    if options.rotation:
        counts['rotation'] = int((rotation_angles(before.cell, after.cell) > ROTATION_NOTED).sum())
    return result, counts


def rotation_angles(before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the angle ``(S,)``, in degrees, by which cells ``(S, 3, 3)`` turned beside their symmetric strain."""
    left, _, right = np.linalg.svd(np.linalg.inv(before) @ after)
    cosine = (np.trace(left @ right, axis1=1, axis2=2) - 1) / 2
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def formula(numbers: NDArray[np.int64]) -> str:
    """Return a formula such as Ga4As4, elements in the order of their atomic numbers."""
    from ase.data import chemical_symbols

    elements, counts = np.unique(numbers, return_counts=True)
    return ''.join(f'{chemical_symbols[z]}{n}' for z, n in zip(elements, counts, strict=True))
