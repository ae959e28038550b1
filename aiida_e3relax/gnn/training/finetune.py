"""Checks before a checkpoint is fine-tuned on new data."""

from __future__ import annotations

import numpy as np

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.gnn.checkpoints.checkpoint import Checkpoint

_NAMED = 8


def check_trained_elements(checkpoint: Checkpoint, pairs: Pairs) -> None:
    """Raise InputError for elements that the checkpoint was not trained on, with the number of pairs that have them."""
    numbers, crystal = pairs.unrelaxed.numbers, pairs.unrelaxed.structure_index
    unknown = sorted(set(numbers.tolist()) - set(checkpoint.elements))
    if unknown:
        counts = [f'Z={z} in {len(np.unique(crystal[numbers == z]))} pairs' for z in unknown]
        more = [f'{len(counts) - _NAMED} more elements'] if len(counts) > _NAMED else []
        raise InputError(
            f'the checkpoint was not trained on {", ".join(counts[:_NAMED] + more)}: leave these pairs out, '
            'or give --new-elements to learn them from random weights'
        )
