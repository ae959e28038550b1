"""The frame in which a model was trained, as the training facts of a checkpoint name it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida_e3relax.gnn.models.base import RelaxationModel

OWN, STANDARD = 'own', 'standard'
"""Names of the frames; earlier releases, which always trained in the crystals' own frame, named none."""


def frame_name(model: RelaxationModel) -> str:
    """Return the name of the frame in which `model` is trained and predicts."""
    return STANDARD if model.standard_orientation else OWN


def warn_of_frame(path: Path, model: RelaxationModel, training: Mapping[str, Any]) -> None:
    """Warn where the facts of its `training` say that an earlier release trained `model` in another frame than this."""
    if model.standard_orientation and 'settings' in training and training.get('frame') != STANDARD:
        warnings.warn(
            f'{path}: an earlier release trained this model in the frame of its files, but it predicts in the standard '
            'orientation: predictions may be worse than its card says; train it anew',
            stacklevel=3,
        )
