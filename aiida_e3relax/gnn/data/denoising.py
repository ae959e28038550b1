"""Denoising pairs: real relaxed crystals, strained and rattled, back to themselves."""

from __future__ import annotations

import dataclasses

import numpy as np

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.common.progress import progress
from aiida_e3relax.crystals.geometry import find_overlap
from aiida_e3relax.crystals.pairs import Pairs, aligned
from aiida_e3relax.crystals.perturbation import perturbed
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.crystals.validation import has_sound_geometry
from aiida_e3relax.gnn.data.starts.elements import family_of
from aiida_e3relax.gnn.data.starts.library import real_pairs

SOURCE = 'denoising'
"""The data set that the pairs are of, and their kind."""

NO_BULK, NO_SOUND_CRYSTAL = 'fixed sites, a fixed cell or a vacuum', 'no sound crystal with noise'
"""Why pairs are left out."""

MOST_TRIES = 20
"""Of noise for one crystal: where atoms are on top of each other it is drawn again."""


@dataclasses.dataclass(frozen=True)
class Noise:
    """What is done to the crystals.

    Attributes
    ----------
    strain
        Standard deviation of the diagonal entries of a random symmetric strain; that of the others is smaller by
        sqrt(2).
    rattle
        Standard deviation of random displacements, in A in each direction.
    copies
        Pairs of each crystal.
    seed
        Of the noise.
    """

    strain: float = 0.05
    rattle: float = 0.2
    copies: int = 1
    seed: int = 0

    def check(self) -> None:
        """Raise InputError for noise that leaves no crystal."""
        for name, most in (('strain', 0.15), ('rattle', 2.0)):
            if not 0 <= getattr(self, name) <= most:
                raise InputError(f'--{name} {getattr(self, name):g}: expected a number from 0 to {most:g}')
        if self.copies < 1:
            raise InputError(f'--copies {self.copies}: expected a number above 0')


def denoising_pairs(pairs: Pairs, noise: Noise) -> tuple[Pairs, dict[str, int]]:
    """Return each relaxed crystal of `real_pairs` with `noise`, and how many were left out for what.

    The end is the relaxed crystal in the frame of the noisy one: no drift, no rotation. Labels are those of the pairs.

    Raises
    ------
    InputError
        For noise that cannot be, and where there is no real crystal to train on.
    """
    noise.check()
    chosen, no_bulk = real_pairs(pairs)
    if not len(chosen):
        raise InputError(
            'no pair of the split train that DFT relaxed, a bulk crystal with nothing fixed: there is no real crystal '
            'to strain and rattle'
        )
    real = pairs.select(chosen)
    real = dataclasses.replace(real, relaxed=real.as_filed, filed=None)
    parts = [_noisy(real, noise, copy) for copy in range(noise.copies)]
    made = Pairs.concatenate(part for part, _ in parts)
    left_out = {NO_BULK: no_bulk, NO_SOUND_CRYSTAL: sum(missing for _, missing in parts)}
    return aligned(made), {reason: count for reason, count in left_out.items() if count}


def _noisy(real: Pairs, noise: Noise, copy: int) -> tuple[Pairs, int]:
    """Return the crystals with noise that leaves them sound, and how many no noise left so."""
    crystals = real.relaxed
    positions, cell = crystals.positions.copy(), crystals.cell.copy()
    waiting = np.arange(len(real))
    for attempt in range(MOST_TRIES):
        rng = np.random.default_rng([noise.seed, copy, attempt])
        some = crystals.select(waiting)
        found = perturbed(some, noise.strain, noise.rattle, rng)
        positions[crystals.atoms_of(waiting)], cell[waiting] = found.positions, found.cell
        waiting = waiting[~_is_sound(found, f'noise of copy {copy + 1}')]
        if not len(waiting):
            break
    kept = np.setdiff1d(np.arange(len(real)), waiting)
    labels = crystals.labels if not copy else np.char.add(crystals.labels, f'#{copy + 1}')
    unrelaxed = dataclasses.replace(crystals.replace(positions, cell), labels=labels)
    about = {'kind': SOURCE, 'recipe': f'strain {noise.strain:g}, rattle {noise.rattle:g} A'}
    texts = {name: np.full(len(real), text) for name, text in about.items()} | {'family': _families(crystals)}
    made = dataclasses.replace(
        real,
        unrelaxed=unrelaxed,
        relaxed=dataclasses.replace(crystals, labels=labels),
        source=np.full(len(real), SOURCE),
        about=texts,
    )
    return made.select(kept), len(waiting)


def _is_sound(crystals: Crystals, title: str) -> np.ndarray:
    """Return ``(S,)`` whether crystals are sound, no atoms on top of each other."""
    sound = has_sound_geometry(crystals)
    for index in progress(np.flatnonzero(sound).tolist(), title):
        sound[index] = find_overlap(crystals.select([index])) is None
    return sound


def _families(crystals: Crystals) -> np.ndarray:
    from ase.data import chemical_symbols

    parts = np.split(crystals.numbers, crystals.offsets[1:-1])
    return np.array([family_of(chemical_symbols[z] for z in np.unique(numbers)) for numbers in parts])
