"""Pairs that are told from others by their numbers alone: held back and trained on, or trained on twice.

`aiida_e3relax.crystals.duplicates` finds crystals that are written in another way, too, with pymatgen, when a training
file is made. This is for what several files have in common, and needs numpy alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.crystals.digests import grid_steps
from aiida_e3relax.crystals.pairs import PIECE_ATOMS, Pairs

ADVICE = (
    '`e3relax data FILE.npz ... --output NEW.npz --drop-leaks --drop-duplicates` makes one file of all of them without'
)


@dataclasses.dataclass(frozen=True)
class Leaks:
    """How many pairs of a data set are where they should not be.

    Attributes
    ----------
    validation
        Pairs to validate on.
    in_train
        How many of them are among those to train on, too.
    train
        Pairs to train on.
    repeated
        How many of them repeat an earlier one.
    """

    validation: int
    in_train: int
    train: int
    repeated: int

    def facts(self) -> dict[str, Any]:
        """Return what a card and a report tell."""
        return {'validation_pairs_in_train': self.in_train, 'repeated_training_pairs': self.repeated}

    def describe(self) -> str | None:
        """Return what is wrong and what to do; None where nothing is."""
        told = []
        if self.in_train:
            told.append(
                f'warning: {self.in_train} of {self.validation} pairs to validate on are trained on, too: their errors '
                'say little of other crystals, and choose the checkpoint'
            )
        if self.repeated:
            told.append(f'{self.repeated} of {self.train} pairs to train on repeat another one, which counts more')
        return f'{"; ".join(told)}. {ADVICE}' if told else None


def find_leaks(pairs: Pairs, held_back: str) -> Leaks:
    """Return how many pairs of the split `held_back` are those of `train`, too, and how often these repeat."""
    digests = pair_digests(pairs)
    known, validation = (digests[pairs.split == split] for split in ('train', held_back))
    in_train, repeated = np.isin(validation, known).sum(), len(known) - len(np.unique(known))
    return Leaks(len(validation), int(in_train), len(known), repeated)


def pair_digests(pairs: Pairs) -> NDArray[np.str_]:
    """Return a digest ``(S,)`` of each pair's species and its two crystals as filed, whatever its names and split."""
    pieces = (piece for piece in pairs.unrelaxed.pieces(PIECE_ATOMS) if len(piece))
    return np.array([digest for piece in pieces for digest in _digests(pairs.select(piece))], dtype='U32')


def _digests(pairs: Pairs) -> Iterator[str]:
    """Yield what `pair_digests` returns of some pairs."""
    before, after = pairs.unrelaxed, pairs.as_filed
    positions = grid_steps(np.hstack([before.positions, after.positions]))
    sites, cells = (
        np.hstack([before.numbers[:, None], positions]),
        grid_steps(np.stack([before.cell, after.cell], axis=1)),
    )
    for of_sites, cell in zip(np.split(sites, before.offsets[1:-1]), cells, strict=True):
        yield hashlib.sha256(of_sites.tobytes() + cell.tobytes()).hexdigest()[:32]
