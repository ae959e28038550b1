"""Pairs whose two crystals may not be written alike: site for site, lattice vector for lattice vector."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.crystals.pairs import Pairs, aligned
from aiida_e3relax.gnn.data.repair import site_distances, site_order

FAR = 1.0
"""A site that relaxes by more than this (A) may be another one; nearer ones are not looked at."""

LARGE_STRAIN = 0.3
"""A principal strain above this may be one between two choices of lattice vectors; smaller ones are not looked at."""

MUCH_LESS = 0.5
"""What another order of sites, or other lattice vectors, leave of displacements or strains to be worth a note."""


def find_doubts(pairs: Pairs, matches_sites: bool) -> dict[str, int]:
    """Return notes on pairs that another order of sites, or other lattice vectors, bring much closer, with how many.

    Sites of one species can be told apart by their order alone, and lattice vectors by theirs. `matches_sites` says
    that sites were brought into another order where that was clear.
    """
    pairs = aligned(pairs)
    labels = pairs.unrelaxed.labels
    doubts = {
        'sites of one species lie much nearer in another order'
        + ('' if matches_sites else ' (--match-sites takes it where it is clear)'): list(_in_another_order(pairs)),
        'the relaxed cell is much less strained with other lattice vectors: are both of one setting?': list(
            _of_other_vectors(pairs)
        ),
    }
    return {f'{note}, as {labels[found[0]]}': len(found) for note, found in doubts.items() if found}


def _in_another_order(pairs: Pairs) -> Iterator[int]:
    before, after = pairs.unrelaxed, pairs.relaxed
    difference = after.fractional() - before.fractional()
    moved = np.linalg.norm(np.einsum('ac,acx->ax', difference, after.cell[before.structure_index]), axis=1)
    furthest = np.zeros(len(pairs))
    np.maximum.at(furthest, before.structure_index, moved)
    for index in np.flatnonzero(furthest > FAR).tolist():
        sites = slice(before.offsets[index], before.offsets[index + 1])
        here = before.select([index]).fractional()
        for crystals in (pairs.as_filed, after):  # what sites have in common as a shift is not known before their order
            there = crystals.select([index]).fractional()
            order, _ = site_order(before.numbers[sites], here, before.numbers[sites], there, after.cell[index])
            if site_distances(here, there[order], after.cell[index]).mean() < MUCH_LESS * moved[sites].mean():
                yield index
                break


def _of_other_vectors(pairs: Pairs) -> Iterator[int]:
    before, after = pairs.unrelaxed.cell, pairs.relaxed.cell
    strains = _largest_strain(before, after)
    changes = _small_changes_of_basis()
    for index in np.flatnonzero(strains > LARGE_STRAIN).tolist():
        inverse = (
            np.linalg.inv(after[index]) @ changes @ before[index]
        )  # of the deformation from each choice of vectors
        unlike = np.swapaxes(inverse, 1, 2) @ inverse - np.eye(3)
        nearest = changes[np.square(unlike).sum(axis=(1, 2)).argmin()] @ before[index]
        if _largest_strain(nearest, after[index]) < MUCH_LESS * strains[index]:
            yield index


def _largest_strain(before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the largest principal strain by magnitude between cells ``(..., 3, 3)``."""
    return np.abs(np.linalg.svd(np.linalg.solve(before, after), compute_uv=False) - 1).max(axis=-1)


@functools.cache
def _small_changes_of_basis() -> NDArray[np.float64]:
    """Return the matrices ``(M, 3, 3)`` of -1, 0 and 1 that take lattice vectors to others of the same lattice."""
    matrices = np.array(list(itertools.product((-1.0, 0.0, 1.0), repeat=9))).reshape(-1, 3, 3)
    return matrices[np.abs(np.linalg.det(matrices) - 1) < 0.5]
