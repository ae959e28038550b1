"""What a training run is, beside its data."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from aiida_e3relax.gnn.augmentation import Augmentation
from aiida_e3relax.gnn.engine import ENGINES
from aiida_e3relax.gnn.errors import InputError
from aiida_e3relax.gnn.models import MODELS, nearest_name


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """Settings of a run; two runs with the same settings and data take the same steps.

    Attributes
    ----------
    architecture, hyperparameters
        The model, as `make_model` takes it.
    steps, batch_size
        Optimiser steps in all, and pairs in each.
    learning_rate, warmup_fraction
        Peak of the one-cycle schedule: linear rise over that fraction of the steps, then a half cosine down to zero.
    weight_decay, gradient_clip
        Of AdamW; largest norm of the gradient.
    cell_weight
        Weight of the cell's error beside the coordinates' in the loss.
    ema_decay
        Decay of the running average of the weights, which is what is validated and shipped.
    validate_every
        Steps between validations.
    seed
        Of the initial weights, of the order of the pairs, and of the augmentation.
    augmentation
        Perturbed copies of the training pairs.
    engine
        ``fast`` or ``reference``, see `accelerate`; the plain layers give the same numbers to rounding.
    """

    architecture: str = 'e3relax-h2'
    hyperparameters: dict[str, Any] = dataclasses.field(default_factory=dict)
    steps: int = 20_000
    batch_size: int = 32
    learning_rate: float = 1e-3
    warmup_fraction: float = 0.05
    weight_decay: float = 1e-4
    gradient_clip: float = 5.0
    cell_weight: float = 1.0
    ema_decay: float = 0.999
    validate_every: int = 1000
    seed: int = 0
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    engine: str = 'fast'

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of `step` (from 0)."""
        warmup = max(1, round(self.warmup_fraction * self.steps))
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        phase = (step - warmup) / max(1, self.steps - warmup)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * phase))


def read_settings(path: Path | None, changes: list[str]) -> TrainingSettings:
    """Return the settings of the JSON file at `path` (defaults where None) with ``NAME=VALUE`` `changes`.

    A name is a training setting or a hyper-parameter of the architecture; both are checked.
    """
    try:
        content = json.loads(path.read_text(encoding='utf-8')) if path else {}
    except (OSError, ValueError) as error:
        raise InputError(f'{path}: cannot be read as JSON settings: {error}') from error
    fields = [f.name for f in dataclasses.fields(TrainingSettings)]
    architecture = dict(c.split('=', 1) for c in changes if '=' in c).get('architecture') or content.get('architecture')
    model = MODELS.get(architecture or TrainingSettings.architecture)
    sizes = list(model.Hyperparameters.__dataclass_fields__) if model else []
    for change in changes:
        name, separator, text = change.partition('=')
        if not separator:
            raise InputError(f'setting {change!r}: expected NAME=VALUE')
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        target = content if name in fields else content.setdefault('hyperparameters', {}) if name in sizes else None
        if target is None:
            raise InputError(f'unknown setting {name!r}{nearest_name(name, [*fields, *sizes])}')
        target[name] = value
    for name in content:
        if name not in fields:
            raise InputError(f'{path}: unknown setting {name!r}{nearest_name(name, fields)}')
    known = [f.name for f in dataclasses.fields(Augmentation)]
    for name in (augmentation := content.pop('augmentation', {})):
        if name not in known:
            raise InputError(f'unknown setting {name!r} of the augmentation{nearest_name(name, known)}')
    settings = TrainingSettings(**content, augmentation=Augmentation(**augmentation))
    if settings.engine not in ENGINES:
        raise InputError(f'unknown engine {settings.engine!r}{nearest_name(settings.engine, list(ENGINES))}')
    return settings
