"""The first shell of neighbours of each site, and whether it is still the same after a relaxation.

Distances alone decide, each against others of the same site: turning the crystal, scaling it as a whole, repeating it
or listing its sites in another order changes no shell.
"""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.crystals.cells import reduction, widths
from aiida_e3relax.crystals.structures import Crystals

MOST_NEIGHBOURS = 24
"""The largest shell there is: the sodium of NaZn13."""

FURTHEST_OF_SHELL = 1.8
"""Neighbours further than the nearest by this factor belong to no first shell."""

CLEAR = 0.5
"""A gap larger than this part of the largest one may end the shell as well: two about as large decide nothing."""


@dataclasses.dataclass(frozen=True, eq=False)
class Shells:
    """The neighbours of N sites, nearest first, as many as a shell can have.

    Attributes
    ----------
    numbers
        ``(N, K)`` their atomic numbers.
    gaps
        ``(N, K)`` the logarithm of how much further the next one is than each; 0 beyond `FURTHEST_OF_SHELL`.
    """

    numbers: NDArray[np.int64]
    gaps: NDArray[np.float64]

    @classmethod
    def of(cls, crystal: Crystals) -> Shells:
        """Return the neighbours in one crystal; the cell repeats in all directions."""
        numbers, distances = nearest_neighbours(crystal, MOST_NEIGHBOURS + 1)
        gaps = np.diff(np.log(distances), axis=1)
        gaps[distances[:, :-1] > FURTHEST_OF_SHELL * distances[:, :1]] = 0.0
        return cls(numbers[:, :-1], gaps)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """``(N,)`` how many neighbours each first shell has: those before the largest gap."""
        return self.gaps.argmax(axis=1) + 1

    def composition(self, site: int, size: int | None = None) -> dict[int, int]:
        """Return how many neighbours of each atomic number are among the nearest `size` ones; by default the shell."""
        chosen = self.numbers[site, : self.sizes[site] if size is None else size]
        return dict(sorted(Counter(chosen.tolist()).items()))

    def has_clear_gap(self, site: int, size: int) -> bool:
        """Return whether the shell of a site could as well end after `size` neighbours."""
        return bool(self.gaps[site, size - 1] > CLEAR * self.gaps[site].max())


def changed_shells(start: Crystals, end: Crystals) -> dict[int, tuple[dict[int, int], dict[int, int]]]:
    """Return the sites whose first shell is another at the end, with its composition at the start and at the end.

    The shell ends where the distance to the next neighbour grows most, in relation. Where two gaps are about as large
    the shell that both crystals have counts: a site between two coordinations has not changed before it has reached the
    other.
    """
    before, after = Shells.of(start), Shells.of(end)
    changed = {}
    for site, (old, new) in enumerate(zip(before.sizes.tolist(), after.sizes.tolist(), strict=True)):
        common = [size for size in (old, new) if before.has_clear_gap(site, size) and after.has_clear_gap(site, size)]
        if any(before.composition(site, size) == after.composition(site, size) for size in common):
            continue
        changed[site] = before.composition(site), after.composition(site)
    return changed


def nearest_neighbours(crystal: Crystals, count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return atomic numbers and distances ``(N, count)`` of the nearest neighbours in one crystal, images included."""
    cell = (reduction(crystal.cell) @ crystal.cell)[0]
    positions = crystal.positions @ np.linalg.inv(cell)
    positions = (positions - np.floor(positions)) @ cell
    n_atoms = len(positions)
    reach = np.cbrt(3 * (count + 1) * abs(np.linalg.det(cell)) / (4 * np.pi * n_atoms))
    numbers, distances = np.zeros((n_atoms, count), dtype=np.int64), np.full((n_atoms, count), np.inf)
    waiting = np.arange(n_atoms)
    while len(waiting):
        reach *= 1.3
        most = np.ceil(reach / widths(cell[None])[0]).astype(int)
        images = np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in most], indexing='ij'), axis=-1).reshape(-1, 3)
        others = (positions[:, None] + images @ cell).reshape(-1, 3)
        kinds = np.repeat(crystal.numbers, len(images))
        for site in waiting:
            found = np.linalg.norm(others - positions[site], axis=1)
            found[site * len(images) + len(images) // 2] = np.inf  # itself
            nearest = np.argsort(found, kind='stable')[:count] if len(found) <= count else _smallest(found, count)
            if len(nearest) == count and found[nearest[-1]] <= reach:
                numbers[site], distances[site] = kinds[nearest], found[nearest]
        waiting = np.flatnonzero(~np.isfinite(distances[:, -1]))
    return numbers, distances


def _smallest(values: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Return the indices of the smallest values in their order."""
    chosen = np.argpartition(values, count)[:count]
    return chosen[np.argsort(values[chosen], kind='stable')]
