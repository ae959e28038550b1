"""Augmentation of a training set with perturbed unrelaxed crystals."""

from __future__ import annotations

import dataclasses

import numpy as np

from aiida_e3relax.common.fields import number
from aiida_e3relax.crystals.pairs import Pairs, aligned


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Perturbed copies of every training pair, with the same relaxed crystal.

    Attributes
    ----------
    copies
        Copies of each pair beside the pair itself.
    path
        Where a copy starts: a random fraction, up to this one, of the way from the unrelaxed crystal to the relaxed.
    strain
        Standard deviation of the entries of a random symmetric strain.
    rattle
        Standard deviation of random displacements, in A in each direction.
    """

    copies: int = number(0, 0, 1000)
    path: float = number(1.0, 0, 1)
    strain: float = number(0.02, 0, 0.15)
    rattle: float = number(0.05, 0, 2)

    def apply(self, pairs: Pairs, seed: int) -> Pairs:
        """Return `pairs`, aligned, followed by their copies; the same `seed` gives the same copies."""
        pairs = aligned(pairs)
        rng = np.random.default_rng(seed)
        return Pairs.concatenate([pairs, *(self._copy(pairs, rng) for _ in range(self.copies))])

    def _copy(self, pairs: Pairs, rng: np.random.Generator) -> Pairs:
        before, after = pairs.unrelaxed, pairs.relaxed
        crystal, count = before.structure_index, len(pairs)
        fraction = rng.uniform(0.0, self.path, count)
        noise = rng.normal(scale=self.strain, size=(count, 3, 3))
        if pairs.fixed_cell is not None:
            noise[pairs.fixed_cell] = 0.0
        cell = before.cell + fraction[:, None, None] * (after.cell - before.cell)
        cell = cell @ (np.eye(3) + (noise + np.swapaxes(noise, 1, 2)) / 2)
        start = before.fractional()
        fractional = start + fraction[crystal, None] * (after.fractional() - start)
        positions = np.einsum('ac,acx->ax', fractional, cell[crystal])
        moves = rng.normal(scale=self.rattle, size=positions.shape)
        if pairs.fixed is not None:
            along = np.einsum('ax,axc->ac', moves, np.linalg.inv(cell)[crystal])
            moves = np.einsum('ac,acx->ax', np.where(pairs.fixed, 0.0, along), cell[crystal])
        positions += moves
        return aligned(dataclasses.replace(pairs, unrelaxed=before.replace(positions, cell)))
