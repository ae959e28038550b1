"""The schedule of a training run: its learning rate, its best validation, and when to stop early."""

from __future__ import annotations

import dataclasses
import math

from aiida_e3relax.gnn.training.settings import TrainingSettings


@dataclasses.dataclass
class Schedule:
    """The state that the validations of a run change; it can be saved and restored.

    Attributes
    ----------
    settings
        Of the run.
    best
        Lowest value of `TrainingSettings.monitor` so far, in A.
    since_best
        Validations since then.
    plateau_best
        Lowest value that was better by more than `TrainingSettings.plateau_threshold`.
    since_reduction
        Validations without such a one since the learning rate was last reduced.
    reductions
        How often it was.
    """

    settings: TrainingSettings
    best: float = math.inf
    since_best: int = 0
    plateau_best: float = math.inf
    since_reduction: int = 0
    reductions: int = 0

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of `step` (from 0)."""
        s = self.settings
        if s.schedule == 'plateau':
            return s.learning_rate * s.plateau_factor**self.reductions
        warmup = max(1, round(s.warmup_fraction * s.steps))
        if step < warmup:
            return s.learning_rate * (step + 1) / warmup
        phase = (step - warmup) / max(1, s.steps - warmup)
        return s.learning_rate * 0.5 * (1 + math.cos(math.pi * phase))

    def ema_decay(self, step: int) -> float:
        """Return the decay of the running average of the weights after `step` steps (from 1)."""
        s = self.settings
        if s.ema_warmup is None:
            return min(s.ema_decay, (1 + step) / (10 + step))
        if step <= s.ema_warmup:
            return min(s.ema_decay, (1 + step) / (s.ema_warmup + step))
        return s.ema_decay

    def judge(self, coordinates: float, cell: float) -> bool:
        """Take note of a validation's errors, in A, and return whether it is the best so far."""
        s = self.settings
        value = {'loss': coordinates + s.cell_weight * cell, 'coordinates': coordinates, 'cell': cell}[s.monitor]
        if value < self.plateau_best * (1 - s.plateau_threshold):
            self.plateau_best, self.since_reduction = value, 0
        else:
            self.since_reduction += 1
            if self.since_reduction > s.plateau_patience:
                self.reductions, self.since_reduction = self.reductions + 1, 0
        better = value < self.best
        self.best, self.since_best = (value, 0) if better else (self.best, self.since_best + 1)
        return better

    @property
    def finished(self) -> bool:
        """Whether it is time for the early stop."""
        return self.settings.early_stop is not None and self.since_best >= self.settings.early_stop

    def state(self) -> dict[str, float]:
        """Return what `restore` takes."""
        names = ('best', 'since_best', 'plateau_best', 'since_reduction', 'reductions')
        return {name: getattr(self, name) for name in names}

    def restore(self, state: dict[str, float]) -> None:
        """Go on from a `state`; those of earlier releases have `best` in place of `plateau_best`."""
        for name, value in {'plateau_best': state['best'], **state}.items():
            setattr(self, name, value)
