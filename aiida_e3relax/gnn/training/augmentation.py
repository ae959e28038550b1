"""Augmentation of a training set with perturbed unrelaxed crystals."""

from __future__ import annotations

import dataclasses

import numpy as np

from aiida_e3relax.common.fields import number
from aiida_e3relax.crystals.freedom.pairs import hold
from aiida_e3relax.crystals.pairs import Pairs, aligned
from aiida_e3relax.crystals.perturbation import perturbed


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
        fraction = rng.uniform(0.0, self.path, len(pairs))
        cell = before.cell + fraction[:, None, None] * (after.cell - before.cell)
        start, along = before.fractional(), fraction[before.structure_index, None]
        fractional = start + along * (after.fractional() - start)
        positions = np.einsum('ac,acx->ax', fractional, cell[before.structure_index])
        between = before.replace(positions, cell)
        unrelaxed = perturbed(between, self.strain, self.rattle, rng, pairs.fixed, pairs.fixed_cell)
        held, _ = hold(unrelaxed, dataclasses.replace(pairs, unrelaxed=between))  # layers keep their vacuum
        return aligned(dataclasses.replace(pairs, unrelaxed=held))
