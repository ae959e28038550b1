"""A crystal moved at random along displacements and strains that break its symmetry, and along no others."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.crystals.freedom.motion import Motion
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.crystals.symmetry import SpaceGroup

DISTANCE = 0.05
"""In A, how far sites may be off a symmetry that is broken: what a potential has relaxed is symmetric to about that."""

NOTHING = 1e-6
"""Part of a random step that is rounding."""


def break_symmetry(
    motion: Motion, kinds: Sequence[str], displacement: float, strain: float, rng: np.random.Generator
) -> Crystals | None:
    """Return the start of `motion` with a random step that no symmetry operation keeps; None where there is no such.

    A random step of all that may move loses its average over the space group, the totally symmetric part: what is left
    belongs to the other irreducible representations. A translation of the lattice that a cell holds more than once is
    an operation, too. The step is drawn along the axes of the cell: a turned crystal takes the same one.

    Parameters
    ----------
    motion
        The crystal with N sites, and what may move in it.
    kinds
        ``(N,)`` what tells its sites apart.
    displacement
        Root mean square over the sites that may move, in A; none moves where all displacements keep the symmetry.
    strain
        Frobenius norm of the strain; likewise.
    rng
        Draws the step.
    """
    start = motion.start
    try:
        group = SpaceGroup.of(start, kinds, DISTANCE).keeping(motion.movable)
    except ValueError:  # spglib finds none
        return None
    free, broken = dataclasses.replace(motion, group=None), dataclasses.replace(motion, group=group)
    axes, triangle = np.linalg.qr(start.cell[0].T)
    axes = axes * np.sign(np.diag(triangle))
    moves = free.project_displacements(rng.normal(size=start.positions.shape) @ axes.T)
    noise = free.project_strain(axes @ rng.normal(size=(3, 3)) @ axes.T)
    apart, stretch = moves - broken.project_displacements(moves), noise - broken.project_strain(noise)
    apart = _without_shift(apart, motion)
    n_movable = max(1, int(motion.movable.any(axis=1).sum()))
    size, length = np.linalg.norm(apart) / np.sqrt(n_movable), np.linalg.norm(stretch)
    if size < NOTHING and length < NOTHING:
        return None
    apart = apart * (displacement / size if size >= NOTHING else 0.0)
    stretch = stretch * (strain / length if length >= NOTHING else 0.0)
    cell = motion.cell(stretch)
    return start.replace(motion.positions(apart, cell), cell[None])


def _without_shift(vectors: NDArray[np.float64], motion: Motion) -> NDArray[np.float64]:
    """Return displacements ``(N, 3)`` without their mean along the lattice vectors that hold no site."""
    cell = motion.start.cell[0]
    fractional = vectors @ np.linalg.inv(cell)
    free = motion.movable.all(axis=0)
    fractional[:, free] -= fractional[:, free].mean(axis=0)
    return fractional @ cell
