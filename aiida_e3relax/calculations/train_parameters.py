"""The parameters of a training run."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Self

from aiida_e3relax.calculations.predict_parameters import DEVICE
from aiida_e3relax.common.fields import number, read_fields
from aiida_e3relax.common.threads import MOST_THREADS
from aiida_e3relax.gnn.training.settings import CALIBRATION_PAIRS, TrainingSettings, read_common_settings

NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9_.+-]{0,99}')
PRESET = 'preset'
TUNING_CHAIN = 'E3RelaxFinetuneWorkChain'
"""The process label of the work chain that tunes a model and judges it."""
FEWEST_TO_SCALE = CALIBRATION_PAIRS
"""Pairs on which the uncertainty of a tuned ensemble is scaled; with fewer it stays as it was."""


@dataclasses.dataclass(frozen=True)
class TrainParameters:
    """What `e3relax train` and `e3relax finetune` may be told; raises ValueError for what they would refuse.

    Attributes
    ----------
    settings
        As in a file that describes a run, without `data` and `output`: `preset`, and the fields of `TrainingSettings`.
        What is the model's own, such as its `hyperparameters`, is looked at in the job alone.
    name
        The name of the model, which stands in its card.
    device, threads
        `auto`, `cpu`, `cuda` or `cuda:<n>`; CPU threads, as torch finds if None.
    new_elements
        Whether a model may be tuned on elements that it was not trained on.
    """

    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    name: str = 'trained'
    device: str = 'auto'
    threads: int | None = number(None, 1, MOST_THREADS)
    new_elements: bool = False

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(f'`name`: expected letters, digits and any of _.+-, found {self.name!r}')
        if not DEVICE.fullmatch(self.device):
            raise ValueError(f'`device`: expected auto, cpu, cuda or cuda:<n>, found {self.device!r}')

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], is_tuning: bool = False) -> Self:
        """Return the parameters in a mapping; raises ValueError naming what is wrong, and what was expected.

        Where a model `is_tuning`, its architecture is its own, and the preset is `finetune` unless another is named.
        """
        parameters = read_fields(cls, values, 'parameters')
        parameters.training_settings(is_tuning)
        return parameters

    def training_settings(self, is_tuning: bool) -> TrainingSettings:
        """Return all settings, those of the preset among them; raises ValueError."""
        content = dict(self.settings)
        for name in ('data', 'output'):
            if name in content:
                raise ValueError(f'settings: {name}: expected none, found {content[name]!r}: the job sets it')
        for name in ('architecture', 'hyperparameters'):
            if is_tuning and name in content:
                raise ValueError(f'settings: {name}: expected none beside `model`, whose {name} it has: leave it out')
        preset = content.pop(PRESET, 'finetune' if is_tuning else 'short')
        return read_common_settings(content, 'settings', str(preset))
