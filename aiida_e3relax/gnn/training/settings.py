"""The settings of a training run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.common.fields import choice, describe_value, number, read_fields
from aiida_e3relax.common.messages import short, suggestion
from aiida_e3relax.gnn.models.registry import MODELS
from aiida_e3relax.gnn.prediction.settings import ENGINES
from aiida_e3relax.gnn.training.augmentation import Augmentation

LARGEST_SIZE = 100_000
"""Of a model's hyper-parameters, and of how often an epoch takes a pair."""


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """Settings of a run; two runs with the same settings and data take the same steps.

    The defaults are the preset ``short``. A default that is added later must be what runs before it did, because their
    files of settings lack its name and they are still continued.

    Attributes
    ----------
    architecture, hyperparameters
        The model, as `make_model` takes it.
    steps, batch_size
        Optimiser steps at most, and pairs in each.
    balanced_batches
        Make every batch of small, middling and large crystals alike, so that batches have about as many edges.
    oversampling
        How often an epoch takes each pair of a data set, by the set's name; once where it is not named.
    training_share
        The share of the training pairs that is trained on, the same ones whatever the seed.
    schedule
        ``one-cycle``: linear rise to `learning_rate` over `warmup_fraction` of the steps, then a half cosine down to
        zero. ``plateau``: `learning_rate`, times `plateau_factor` whenever more than `plateau_patience` validations in
        a row brought nothing better.
    monitor
        What a validation is judged by, for ``best.pt``, the plateaus and the early stop: the ``loss`` of the last
        layer, or the error of its ``coordinates`` or its ``cell``.
    early_stop
        Stop after so many validations in a row without a better one; None goes on.
    weight_decay, amsgrad, gradient_clip
        Of AdamW; its variant that never forgets a large gradient; the largest norm of the gradient.
    cell_weight
        Weight of the cell's error beside the coordinates' in the loss.
    ema_decay
        Decay of the running average of the weights, which is what is validated and shipped.
    validate_every
        Steps between validations.
    seed
        Of the initial weights, of the order of the pairs, and of the augmentation.
    symmetric_targets
        Train on the part of each relaxation that keeps the symmetry of the unrelaxed crystal, see
        `symmetrised_targets`; validation measures all of it.
    augmentation
        Perturbed copies of the training pairs.
    engine
        ``fast`` or ``reference``, see `with_engine`; the plain layers give the same numbers to rounding.
    precision
        ``bfloat16`` takes the products of the hidden linear maps in half precision, see `with_precision`; validation
        and what is kept are float32 either way.
    """

    architecture: str = choice('e3relax-h2', *(name for name in MODELS if name != 'e3relax-h2'))
    hyperparameters: dict[str, Any] = dataclasses.field(default_factory=dict)
    steps: int = number(16_000, 1)
    batch_size: int = number(32, 1)
    balanced_batches: bool = False
    oversampling: dict[str, int] = dataclasses.field(default_factory=dict)
    training_share: float = number(1.0, 0, 1)
    learning_rate: float = number(1.2e-3, 0)
    schedule: str = choice('one-cycle', 'plateau')
    warmup_fraction: float = number(0.05, 0, 1)
    plateau_factor: float = number(0.8, 0, 1)
    plateau_patience: int = number(5, 0)
    monitor: str = choice('loss', 'coordinates', 'cell')
    early_stop: int | None = number(None, 1)
    weight_decay: float = number(0.01, 0)
    amsgrad: bool = False
    gradient_clip: float = number(5.0, 0)
    cell_weight: float = number(1.0, 0)
    ema_decay: float = number(0.999, 0, 1)
    validate_every: int = number(500, 1)
    seed: int = number(0, 0, 2**63 - 1)
    symmetric_targets: bool = False
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    engine: str = choice(*ENGINES)
    precision: str = choice('float32', 'bfloat16')


PRESETS: dict[str, dict[str, Any]] = {
    'short': {},
    'papers': {
        'learning_rate': 1e-4,
        'weight_decay': 0.0,
        'amsgrad': True,
        'gradient_clip': 50.0,
        'schedule': 'plateau',
        'monitor': 'coordinates',
        'validate_every': 800,
        'early_stop': 10,
        'steps': 400_000,
    },
    'finetune': {'learning_rate': 2e-4, 'steps': 4000, 'validate_every': 250},
}
"""Settings by name. ``papers`` is E3Relax-H2's training, whose pseudo-epochs have 800 steps; its 400,000 steps are a
bound of ours, which the early stop comes before."""


def read_settings(content: Mapping[str, Any], where: str, preset: str = 'short') -> TrainingSettings:
    """Return the settings in `content`; what it lacks is the preset's.

    Raises
    ------
    InputError
        For names, types and values that cannot be, those of the model's hyper-parameters too; the message begins with
        `where`.
    """
    if preset not in PRESETS:
        raise InputError(f'{where}: unknown preset {preset!r}{suggestion(preset, list(PRESETS))}')
    names = [field.name for field in dataclasses.fields(TrainingSettings)]
    for name in set(content) - set(names):
        architecture = str(content.get('architecture', TrainingSettings.architecture))
        if name in hyperparameter_names(architecture):
            raise InputError(f'{where}: {name} is a size of {architecture}: write it below `hyperparameters:`')
    settings = read_fields(TrainingSettings, {**PRESETS[preset], **content}, where)
    for source, times in settings.oversampling.items():
        if type(times) is not int or not 1 <= times <= LARGEST_SIZE:
            raise InputError(
                f'{where}: oversampling: {short(source)}: expected a whole number from 1 to {LARGEST_SIZE}, '
                f'found {describe_value(times)}'
            )
    sizes = f'{where}: hyperparameters'
    read_fields(MODELS[settings.architecture].Hyperparameters, settings.hyperparameters, sizes)
    for name, value in settings.hyperparameters.items():
        if type(value) in (int, float) and not 0 < value <= LARGEST_SIZE:
            raise InputError(
                f'{sizes}: {name}: expected a number above 0, up to {LARGEST_SIZE}, found {describe_value(value)}'
            )
    return settings


def hyperparameter_names(architecture: str) -> list[str]:
    """Return the names of a model's hyper-parameters; none for an unknown model."""
    model = MODELS.get(architecture)
    return [field.name for field in dataclasses.fields(model.Hyperparameters)] if model else []
