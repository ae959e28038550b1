"""A random part of the pairs to train on, for learning curves."""

from __future__ import annotations

import numpy as np

from aiida_e3relax.crystals.pairs import Pairs


def with_training_share(pairs: Pairs, share: float) -> Pairs:
    """Return `pairs` with a random `share` of those to train on; a smaller share is part of a larger one."""
    if share == 1:
        return pairs
    chosen = pairs.split != 'train'
    training = np.random.default_rng(0).permutation(np.flatnonzero(~chosen))
    chosen[training[: round(share * len(training))]] = True
    return pairs.select(np.flatnonzero(chosen))
