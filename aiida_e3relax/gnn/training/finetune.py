"""Before a checkpoint is fine-tuned on new data: checks, and batches that fit few pairs."""

from __future__ import annotations

import dataclasses

import numpy as np

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.gnn.checkpoints.checkpoint import Checkpoint
from aiida_e3relax.gnn.training.settings import TrainingSettings

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


def fit_batches(settings: TrainingSettings, n_pairs: int, n_processes: int = 1) -> TrainingSettings:
    """Return settings with batches no larger than all `n_pairs` to train on, which `n_processes` share alike."""
    most = n_pairs - n_pairs % n_processes
    return dataclasses.replace(settings, batch_size=most) if 0 < most < settings.batch_size else settings
