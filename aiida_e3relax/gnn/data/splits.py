"""Division of pairs into train, val and test: at random, by chemical system, by prototype, or as the source has it.

Pairs that belong together (the same relaxed crystal, chemical system or prototype) go into one split together. So do
prototypes that relax to the same crystal.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.common.progress import progress
from aiida_e3relax.crystals.pairs import SPLIT_NAMES, SPLITS, Pairs, is_split
from aiida_e3relax.crystals.structures import Crystals

METHODS = ('as-given', 'random', 'chemical-system', 'prototype')
SLACK = 0.01
"""The share of all pairs by which a split may exceed its fraction, so that groups of several pairs have a place."""
SYMMETRY_TOLERANCE = 0.01
"""Distance in A within which positions count as symmetric when the space group is determined."""


def check_fractions(fractions: Sequence[float]) -> None:
    """Raise InputError unless `fractions` are three shares that make up the whole."""
    are_shares = len(fractions) == 3 and all(0 <= fraction <= 1 for fraction in fractions)  # NaN is none
    if not are_shares or abs(sum(fractions) - 1) > 1e-6:
        raise InputError(f'fractions {list(fractions)}: expected three for {", ".join(SPLITS)} that sum to 1')


def make_split(
    pairs: Pairs, method: str, fractions: Sequence[float], seed: int, same_crystal: NDArray[np.int64] | None
) -> NDArray[np.str_]:
    """Return the split ``(S,)`` of each pair.

    Parameters
    ----------
    pairs
        The pairs; their `split` is what the source gave, empty where it gave none.
    method
        One of `METHODS`.
    fractions
        Shares of train, val and test.
    seed
        Seed of the order in which groups are dealt out; the same data and seed give the same split.
    same_crystal
        ``(S,)`` group number of pairs that end in the same crystal, which every split keeps together; None: unknown.

    Raises
    ------
    InputError
        For ``as-given`` where the source gives no split.
    """
    if method == 'as-given':
        names = np.unique(pairs.split)
        missing = np.flatnonzero(np.isin(pairs.split, [name for name in names if not is_split(name)]))
        if len(missing):
            raise InputError(
                f'{len(missing)} of {len(pairs)} pairs come without a split ({SPLIT_NAMES}), such as '
                f'{pairs.unrelaxed.labels[missing[0]]}; choose another one: --split {" | ".join(METHODS[1:])}'
            )
        return pairs.split
    if method == 'random':
        groups = np.arange(len(pairs)) if same_crystal is None else same_crystal
    elif method == 'chemical-system':
        groups = _numbered(chemical_systems(pairs))
    else:
        groups = _numbered(prototypes(pairs))
        if same_crystal is not None:
            groups = joined(groups, same_crystal)
    return _deal(groups, fractions, seed)


def joined(groups: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the group number ``(S,)`` of pairs in groups of two kinds, where groups with a pair in common are one.

    Both arrays are ``(S,)``. A group's number is the lowest that its pairs have in `groups`, numbers from 0.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first, second = (np.unique(part, return_inverse=True)[1] for part in (groups, others))
    nodes = len(groups)
    edges = coo_array((np.ones(nodes), (first, nodes + second)), shape=(2 * nodes, 2 * nodes))
    component = connected_components(edges, directed=False)[1][first]
    lowest = np.full(2 * nodes, groups.max(initial=0))
    np.minimum.at(lowest, component, groups)
    return lowest[component]


def chemical_systems(pairs: Pairs) -> list[str]:
    """Return the elements of each pair, such as ``Al-As-Ga``."""
    return chemical_systems_of(pairs.unrelaxed)


def chemical_systems_of(crystals: Crystals) -> list[str]:
    """Return the elements of each crystal, such as ``Al-As-Ga``."""
    from ase.data import chemical_symbols

    return [
        '-'.join(sorted(chemical_symbols[z] for z in np.unique(numbers)))
        for numbers in np.split(crystals.numbers, crystals.offsets[1:-1])
    ]


def prototypes(pairs: Pairs) -> list[str]:
    """Return the prototype of each unrelaxed crystal, see `prototypes_of`.

    The unrelaxed crystal is taken because it is what a model sees, and relaxations may break or make symmetry.
    """
    return prototypes_of(pairs.unrelaxed)


def prototypes_of(crystals: Crystals) -> list[str]:
    """Return space group, anonymous formula and Wyckoff letters of each crystal, such as ``216:1-1:ac``."""
    import spglib

    offsets, fractional = crystals.offsets, crystals.fractional()
    names = []
    for i in progress(range(len(crystals)), 'prototypes'):
        atoms = slice(offsets[i], offsets[i + 1])
        numbers = crystals.numbers[atoms]
        counts = np.sort(np.unique(numbers, return_counts=True)[1])
        anonymous = '-'.join(str(n) for n in counts // np.gcd.reduce(counts))
        cell = crystals.cell[i].tolist(), fractional[atoms].tolist(), numbers.tolist()
        found = spglib.get_symmetry_dataset(cell, SYMMETRY_TOLERANCE)
        if found is None:
            names.append(f'1:{anonymous}')
            continue
        orbits = np.unique(found.crystallographic_orbits)
        letters = ''.join(sorted(found.wyckoffs[k] for k in orbits))
        names.append(f'{found.number}:{anonymous}:{letters}')
    return names


def _numbered(names: list[str]) -> NDArray[np.int64]:
    return np.unique(names, return_inverse=True)[1]


def _deal(groups: NDArray[np.int64], fractions: Sequence[float], seed: int) -> NDArray[np.str_]:
    """Deal groups out in random order, each to the split that lacks most of its share, of those that it fits into.

    Where it fits into none, it goes where most room is left. Groups that are too large for a whole split come first,
    the largest before the others, so that what comes later fills up the rest. The last ones go to splits that are still
    empty, so that none with a share stays so unless there are fewer groups than splits.
    """
    numbers, counts = np.unique(groups, return_counts=True)
    wanted = np.array(fractions) * len(groups)
    slack, least = max(1.0, SLACK * len(groups)), min(wanted[wanted > 0])
    held = np.zeros(3)
    split_of = {}
    order = np.random.default_rng(seed).permutation(len(numbers))
    order = order[np.argsort(np.where(counts > least + slack, -counts, 0)[order], kind='stable')]
    for place, k in enumerate(order):
        room, has_share = wanted - held, wanted > 0
        fits, is_empty = has_share & (counts[k] <= room + slack), has_share & (held == 0)
        if len(order) - place <= is_empty.sum():
            choice = np.where(is_empty, room, -np.inf)
        elif fits.any():
            choice = np.where(fits, room / np.maximum(wanted, 1e-9), -np.inf)
        else:
            choice = np.where(has_share, room, -np.inf)
        chosen = int(np.argmax(choice))
        held[chosen] += counts[k]
        split_of[numbers[k]] = SPLITS[chosen]
    return np.array([split_of[g] for g in groups])
