"""Pairs that a model has learnt from before, learnt again beside new ones, against forgetting."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import numpy as np

from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.gnn.data.splits import chemical_systems

TRAIN = 'train'


@dataclasses.dataclass(frozen=True)
class Replay:
    """Pairs that are learnt again.

    Attributes
    ----------
    pairs
        They themselves.
    asked
        How many there were to be.
    to_train, free
        How many old pairs are of the split `train`, and how many of these of no chemical system that measures.
    """

    pairs: Pairs
    asked: int
    to_train: int
    free: int

    def describe(self) -> str:
        """Return how many pairs are learnt again and, where there are fewer than asked for, why."""
        told = f'{len(self.pairs)} of {self.asked} old pairs asked for are learnt again'
        if len(self.pairs) == self.asked:
            return told
        return (
            f'{told}: {self.to_train} are of the split `{TRAIN}`, of which {self.free} are of no chemical system that '
            'models are measured on'
        )


def draw_replay(old: Pairs, new: Pairs, share: float, seed: int, measured: Collection[str] = ()) -> Replay:
    """Return `share` old pairs for each new one to train on, drawn at random, or all where these are fewer.

    They are of the old split `train`, and of none of the chemical systems that the new pairs have in other splits, or
    that are `measured` elsewhere: what is measured is new.
    """
    systems = np.array(chemical_systems(new))
    taken = {*systems[new.split != TRAIN].tolist(), *measured}
    to_train = old.split == TRAIN
    free = np.flatnonzero(to_train & ~np.isin(chemical_systems(old), sorted(taken)))
    asked = round(share * len(new.of_split(TRAIN)))
    drawn = np.random.default_rng(seed).choice(free, size=min(len(free), asked), replace=False)
    return Replay(old.select(np.sort(drawn)), asked, int(to_train.sum()), len(free))
