"""The settings of a training run. Only what is the model's own needs torch to be checked."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.common.fields import choice, describe_value, number, read_fields
from aiida_e3relax.common.messages import short, suggestion
from aiida_e3relax.gnn.models.loss_settings import COORDINATE_ERRORS, LossSettings
from aiida_e3relax.gnn.models.registry import MODELS
from aiida_e3relax.gnn.prediction.settings import ENGINES
from aiida_e3relax.gnn.training.augmentation import Augmentation

LAST_LAYER = 'last'
"""The word of `TrainingSettings.layer_weights` that takes the supervision off all layers but the last."""

CALIBRATION_PAIRS = 10
"""By the errors of fewer pairs the uncertainty of an ensemble is not scaled after a training: chance would decide."""

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
    schedule, learning_rate, warmup_fraction, plateau_factor, plateau_patience, plateau_threshold
        ``one-cycle``: linear rise to `learning_rate` over `warmup_fraction` of the steps, then a half cosine down to
        zero. ``plateau``: `learning_rate`, times `plateau_factor` whenever more than `plateau_patience` validations in
        a row brought nothing that is better by more than the share `plateau_threshold`.
    monitor
        What a validation is judged by, for ``best.pt``, the plateaus and the early stop: the ``loss`` of the last
        layer, or the error of its ``coordinates``, as `loss` measures it, or of its ``cell``.
    early_stop
        Stop after so many validations in a row without a better one; None goes on.
    weight_decay, amsgrad, gradient_clip
        Of AdamW; its variant that never forgets a large gradient; the largest norm of the gradient.
    loss
        How the errors of coordinates are measured, in the loss and in validations, see `LossSettings`. The forms of
        DeepRelax have a loss of their own and take it for validations alone.
    cell_weight
        Weight of the cell's error beside the coordinates' in the loss.
    layer_weights
        Weights of the layers' structures in the loss, the first layer's first (alpha_t of E3Relax-H2, eq. 40); None is
        1 for each, and ``last`` takes the last one alone. A model that gives no structures of its layers has one.
    align_targets
        Take drift and rotation out of the relaxed crystals (see `aligned`) to train and validate on; false takes them
        as filed, as the papers do.
    ema_decay
        Decay of the running average of the weights, which is what is validated and shipped.
    ema_warmup
        None: the decay after step u is at most ``(1 + u) / (10 + u)``. A number W: it is at most
        ``(1 + u) / (W + u)`` up to step W, and `ema_decay` from then on; 0 is no warm-up.
    validate_every
        Steps between validations.
    seed
        Of the initial weights, of the order of the pairs, and of the augmentation.
    symmetric_targets
        Train on the part of each relaxation that keeps the symmetry of the unrelaxed crystal, see
        `symmetrised_targets`; validation measures all of it.
    augmentation
        Perturbed copies of the training pairs.
    balanced_validation
        Let every data set count alike in a validation, however many pairs it has; else every pair does.
    validation
        The split to validate on, such as OC20's ``val_id``. Where ``val`` is not among the data's splits, it is the one
        whose name begins with it, if there is one alone.
    needs_calibration
        Of an ensemble: end with an error where its uncertainty cannot be scaled to its errors, see `recalibrate`.
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
    training_share: float = number(1.0, 0, 1, excludes_least=True)
    learning_rate: float = number(1.2e-3, 0)
    schedule: str = choice('one-cycle', 'plateau')
    warmup_fraction: float = number(0.05, 0, 1)
    plateau_factor: float = number(0.8, 0, 1, excludes_least=True)
    plateau_patience: int = number(5, 0)
    plateau_threshold: float = number(0.0, 0, 1)
    monitor: str = choice('loss', 'coordinates', 'cell')
    early_stop: int | None = number(None, 1)
    weight_decay: float = number(0.01, 0)
    amsgrad: bool = False
    gradient_clip: float = number(5.0, 0, excludes_least=True)
    loss: str = choice(*COORDINATE_ERRORS)
    cell_weight: float = number(1.0, 0)
    layer_weights: list[float] | str | None = None
    align_targets: bool = True
    ema_decay: float = number(0.999, 0, 1)
    ema_warmup: int | None = number(None, 0)
    validate_every: int = number(500, 1)
    seed: int = number(0, 0, 2**63 - 1)
    symmetric_targets: bool = False
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    engine: str = choice(*ENGINES)
    precision: str = choice('float32', 'bfloat16')
    validation: str = 'val'
    balanced_validation: bool = False
    needs_calibration: bool = False


PRESETS: dict[str, dict[str, Any]] = {
    'short': {},
    'papers': {
        'learning_rate': 1e-4,
        'weight_decay': 0.0,
        'amsgrad': True,
        'gradient_clip': 50.0,
        'schedule': 'plateau',
        'plateau_threshold': 1e-4,
        'monitor': 'coordinates',
        'validate_every': 800,
        'early_stop': 11,
        'steps': 640_000,
        'loss': 'pacd',
        'align_targets': False,
        'ema_warmup': 4000,
    },
    'finetune': {'learning_rate': 2e-4, 'steps': 400, 'validate_every': 20, 'early_stop': 5},
}
"""Settings by name.

``finetune`` is for tens to hundreds of pairs, which a trained model learns by heart within a few hundred steps.

``papers`` is E3Relax-H2's training.

The paper states AdamW, a learning rate that begins at 1e-4 and is reduced after 5 epochs in a row without a better
validation (section 4.10), the periodicity-aware Cartesian displacement loss (eqs. 37-39), and layers that count alike
(eq. 40). The rest is what the authors' published code has: batches of 32, our default; no weight decay; AMSGrad; a
gradient norm of 50 at most; pseudo-epochs of 800 steps, 800 at most, each validated by the coordinates' error of the
last layer; a rate that is multiplied by 0.8, where better means by more than 0.01 %; an end after 11 validations in a
row without a better one; targets as filed; a running average of decay 0.999 whose warm-up takes 4000 steps; and a mean
over the cell's components, where eq. 40 prints their sum (`cell_weight` 9).

What we chose otherwise: crystals of a batch count alike whatever their size, as eqs. 39 and 58 have it, where the code
averages over the atoms of the batch; the learning rate has no lower bound, which is 1e-8 there; and a loss that is not
finite ends the run, where the code leaves the step out. E3Relax and DeepRelax state the same optimiser, rate and
patience; their losses are others.
"""


def read_settings(content: Mapping[str, Any], where: str, preset: str = 'short') -> TrainingSettings:
    """Return the settings in `content`; what it lacks is the preset's.

    Raises
    ------
    InputError
        For names, types and values that cannot be, those of the model's hyper-parameters too; the message begins with
        `where`.
    """
    names = [field.name for field in dataclasses.fields(TrainingSettings)]
    for name in set(content) - set(names):
        architecture = str(content.get('architecture', TrainingSettings.architecture))
        if name in hyperparameter_names(architecture):
            raise InputError(f'{where}: {name} is a size of {architecture}: write it below `hyperparameters:`')
    settings = read_common_settings(content, where, preset)
    sizes = f'{where}: hyperparameters'
    described = MODELS[settings.architecture].Hyperparameters
    read_fields(described, settings.hyperparameters, sizes)
    bounded = {field.name for field in dataclasses.fields(described) if 'bounds' in field.metadata}
    for name, value in settings.hyperparameters.items():
        if name not in bounded and type(value) in (int, float) and not 0 < value <= LARGEST_SIZE:
            raise InputError(
                f'{sizes}: {name}: expected a number above 0, up to {LARGEST_SIZE}, found {describe_value(value)}'
            )
    loss_settings(settings, where)
    return settings


def read_common_settings(content: Mapping[str, Any], where: str, preset: str = 'short') -> TrainingSettings:
    """Return the settings in `content` as `read_settings` does, without a look at what is the model's own."""
    if preset not in PRESETS:
        raise InputError(f'{where}: unknown preset {preset!r}{suggestion(preset, list(PRESETS))}')
    settings = read_fields(TrainingSettings, {**PRESETS[preset], **content}, where)
    for source, times in settings.oversampling.items():
        if type(times) is not int or not 1 <= times <= LARGEST_SIZE:
            raise InputError(
                f'{where}: oversampling: {short(source)}: expected a whole number from 1 to {LARGEST_SIZE}, '
                f'found {describe_value(times)}'
            )
    return settings


def loss_settings(settings: TrainingSettings, where: str) -> LossSettings:
    """Return what `settings` say of the loss.

    Raises InputError, whose message begins with `where`, for weights that do not fit the layers of the model, and for
    symmetric targets that would not be aligned.
    """
    if settings.symmetric_targets and not settings.align_targets:
        raise InputError(
            f'{where}: symmetric_targets are aligned with the unrelaxed crystals: leave align_targets at true, '
            'or symmetric_targets at false'
        )
    return LossSettings(settings.loss, settings.cell_weight, _layer_weights(settings, f'{where}: layer_weights'))


def _layer_weights(settings: TrainingSettings, where: str) -> tuple[float, ...] | None:
    """Return the weight of every layer, or None for 1 each."""
    weights, name = settings.layer_weights, settings.architecture
    if weights is None:
        return None
    model = MODELS[name]
    layers = model.supervised_layers(model.Hyperparameters(**settings.hyperparameters))
    if layers == 0:
        raise InputError(f'{where}: {name} has a loss of its own, which is not one of layers: leave the line out')
    if weights == LAST_LAYER:
        return (*[0.0] * (layers - 1), 1.0)
    if not isinstance(weights, list) or len(weights) != layers:
        expected = 'a list of one number' if layers == 1 else f'a list of {layers} numbers, one for each layer'
        count = f', which has {len(weights)}' if isinstance(weights, list) else ''
        raise InputError(
            f'{where}: expected {expected} of {name}, or the word {LAST_LAYER}, found {describe_value(weights)}{count}'
        )
    for layer, weight in enumerate(weights, 1):
        if type(weight) not in (int, float) or not 0 <= weight < math.inf:
            raise InputError(
                f'{where}: layer {layer}: expected a number that is at least 0, found {describe_value(weight)}'
            )
    if weights[-1] == 0:
        raise InputError(f'{where}: layer {layers} is the prediction: expected a number above 0, found 0')
    return tuple(float(weight) for weight in weights)


def hyperparameter_names(architecture: str) -> list[str]:
    """Return the names of a model's hyper-parameters; none for an unknown model."""
    model = MODELS.get(architecture)
    return [field.name for field in dataclasses.fields(model.Hyperparameters)] if model else []
