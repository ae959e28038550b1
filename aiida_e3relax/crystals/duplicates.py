"""Crystals that occur more than once: within a data set (repeats) and on both sides of a split (leaks).

All pairs of crystals would be too many for pymatgen's `StructureMatcher`. Only crystals of one reduced formula whose
volumes per atom and mean neighbour distances agree are given to it; both numbers are the same for every choice of cell.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.common.progress import progress
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.crystals.structures import Crystals, pymatgen_structure

NEIGHBOURS = 12
"""Distances of the fingerprint: to the 1st, 2nd, ... 12th neighbour, each averaged over atoms."""

TOLERANCE = 0.01
"""Fingerprints whose entries differ by less than this fraction may belong to one crystal."""

SAME = 1e-4
"""Crystals of one formula whose fingerprints agree to this fraction are one, written in another way."""

MATCHER_LENGTH, MATCHER_SITES, MATCHER_ANGLE = 0.05, 0.05, 2.0
"""StructureMatcher's tolerances: tighter than its defaults, which call a relaxed crystal and its start the same."""


@dataclasses.dataclass(frozen=True)
class Repeats:
    """Which pairs hold the same crystal.

    Attributes
    ----------
    relaxed
        ``(S,)`` group number: pairs in a group end in the same relaxed crystal, or are joined by others that do, so
        that no two of different groups are the same.
    whole
        ``(S,)`` group number: pairs in a group start and end in the crystals of the first one, with as much of them
        fixed.
    """

    relaxed: NDArray[np.int64]
    whole: NDArray[np.int64]

    def shared(self, split: NDArray[np.str_], of: str, also_in: str) -> NDArray[np.int64]:
        """Return the pairs of the split `of` whose relaxed crystal is in the split `also_in`, too."""
        return np.flatnonzero((split == of) & np.isin(self.relaxed, self.relaxed[split == also_in]))

    def superfluous(self, split: NDArray[np.str_]) -> NDArray[np.int64]:
        """Return the pairs that repeat an earlier pair of the same split as a whole."""
        _, first = np.unique(np.char.add(np.char.add(split, ':'), self.whole.astype(str)), return_index=True)
        return np.setdiff1d(np.arange(len(split)), first)


def find_repeats(pairs: Pairs) -> Repeats:
    """Return which of `pairs` hold the same crystals; needs pymatgen."""
    relaxed = _same(pairs.relaxed, _of_one_formula(pairs.relaxed), 'relaxed')
    ends = _same(pairs.relaxed, _members(relaxed), 'relaxed', to_first=True)
    whole = _same(pairs.unrelaxed, _members(ends), 'unrelaxed', to_first=True)
    if pairs.fixed is None and pairs.fixed_cell is None:
        return Repeats(relaxed, whole)
    fixed = np.zeros((len(pairs), 3))
    if pairs.fixed is not None:
        fixed = pairs.unrelaxed.mean_over_atoms(pairs.fixed.astype(np.float64)).round(6)
    cells = np.zeros(len(pairs)) if pairs.fixed_cell is None else pairs.fixed_cell
    keys = np.column_stack([whole, fixed, cells])
    return Repeats(relaxed, np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1))


def first_of_each(crystals: Crystals) -> NDArray[np.int64]:
    """Return the first of the crystals that are the same to `SAME`, in order; needs pymatgen.

    Formula and fingerprint decide: relaxations that end in nearly the same crystal count as several.
    """
    prints = [_fingerprint(crystals, i) for i in progress(range(len(crystals)), 'fingerprints of relaxed crystals')]
    found: dict[tuple[float, ...], int] = {}
    for formula in _of_one_formula(crystals):
        for index in formula:
            found.setdefault((formula[0], *np.round(np.log(prints[index]) / SAME).tolist()), index)
    return np.sort(np.fromiter(found.values(), dtype=np.int64))


def same_crystals(crystals: Crystals) -> NDArray[np.int64]:
    """Return a group number ``(S,)``, the same for crystals that are the same; needs pymatgen."""
    return _same(crystals, _of_one_formula(crystals), 'all')


def reduced_formulas(crystals: Crystals) -> list[tuple[int, ...]]:
    """Return the reduced formula of each crystal: its atomic numbers, and how many atoms there are of each."""
    formulas = []
    for numbers in np.split(crystals.numbers, crystals.offsets[1:-1]):
        elements, counts = np.unique(numbers, return_counts=True)
        formulas.append((*elements.tolist(), *(counts // np.gcd.reduce(counts)).tolist()))
    return formulas


def _of_one_formula(crystals: Crystals) -> list[list[int]]:
    """Return the indices of crystals of one reduced formula, for each."""
    found = defaultdict(list)
    for i, formula in enumerate(reduced_formulas(crystals)):
        found[formula].append(i)
    return list(found.values())


def _members(groups: NDArray[np.int64]) -> list[list[int]]:
    order = np.argsort(groups, kind='stable')
    return [part.tolist() for part in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)]


def _same(crystals: Crystals, buckets: list[list[int]], stage: str, to_first: bool = False) -> NDArray[np.int64]:
    """Return a group number for each crystal, the same for crystals of one bucket that are the same.

    What is the same within tolerances may make a chain whose ends are not: its crystals are one group, or with
    `to_first` a group is the crystals that are the same as its first.
    """
    from pymatgen.analysis.structure_matcher import StructureMatcher

    matcher = StructureMatcher(MATCHER_LENGTH, MATCHER_SITES, MATCHER_ANGLE, primitive_cell=False, scale=False)
    groups = _Groups(len(crystals))

    @functools.cache
    def primitive(index: int) -> Any:
        return pymatgen_structure(crystals, index).get_primitive_structure()

    several = [bucket for bucket in buckets if len(bucket) > 1]
    wanted = [i for bucket in several for i in bucket]
    prints = {i: _fingerprint(crystals, i) for i in progress(wanted, f'fingerprints of {stage} crystals')}
    alike = [(min(pair), max(pair)) for bucket in several for pair in _alike(bucket, prints)]
    for i, j in progress(sorted(alike, key=lambda pair: pair[::-1]), f'comparing {stage} crystals'):
        roots = groups.root(i), groups.root(j)
        may_join = roots == (i, j) if to_first else roots[0] != roots[1]
        if may_join and matcher.fit(primitive(i), primitive(j)):
            groups.join(i, j)
    return groups.numbers()


def _alike(bucket: list[int], prints: dict[int, NDArray[np.float64]]) -> Iterator[tuple[int, int]]:
    """Yield the pairs of indices whose fingerprints agree."""
    order = sorted(bucket, key=lambda i: prints[i][0])
    for rank, i in enumerate(order):
        for j in order[rank + 1 :]:
            if prints[j][0] > prints[i][0] * (1 + TOLERANCE):
                break
            if np.allclose(prints[i], prints[j], rtol=TOLERANCE, atol=0):
                yield i, j


def _fingerprint(crystals: Crystals, index: int) -> NDArray[np.float64]:
    """Return the length of a cube of an atom's volume, and the mean distances to the nearest neighbours, in A."""
    structure = pymatgen_structure(crystals, index)
    length = (structure.volume / len(structure)) ** (1 / 3)
    reach = 1.8 * length
    while True:
        centre, _, _, distance = structure.get_neighbor_list(reach)
        if len(centre) and (np.bincount(centre, minlength=len(structure)) >= NEIGHBOURS).all():
            break
        reach *= 1.4
    nearest = np.sort(distance)[np.argsort(centre[np.argsort(distance)], kind='stable')]
    first = np.concatenate([[0], np.cumsum(np.bincount(centre))[:-1]])
    return np.concatenate([[length], nearest[first[:, None] + np.arange(NEIGHBOURS)].mean(axis=0)])


class _Groups:
    """Disjoint sets of the indices 0 .. count - 1."""

    def __init__(self, count: int):
        self._parent = list(range(count))

    def root(self, index: int) -> int:
        while self._parent[index] != index:
            self._parent[index] = self._parent[self._parent[index]]
            index = self._parent[index]
        return index

    def join(self, i: int, j: int) -> None:
        low, high = sorted((self.root(i), self.root(j)))
        self._parent[high] = low

    def numbers(self) -> NDArray[np.int64]:
        return np.array([self.root(i) for i in range(len(self._parent))], dtype=np.int64)
