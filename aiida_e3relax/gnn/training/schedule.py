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
    start
        Value of `TrainingSettings.monitor` before the first step, in A, of a run that starts from a checkpoint. Early
        stop and plateaus go by the validations after it: the first steps of a run that ends well may be worse.
    best
        Lowest value after steps so far.
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
    start: float = math.inf
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
        """Take note of a validation's errors, in A, and return whether it is the best so far, the start included."""
        s, value = self.settings, self._value(coordinates, cell)
        if value < self.plateau_best * (1 - s.plateau_threshold):
            self.plateau_best, self.since_reduction = value, 0
        else:
            self.since_reduction += 1
            if self.since_reduction > s.plateau_patience:
                self.reductions, self.since_reduction = self.reductions + 1, 0
        better = value < self.best
        self.best, self.since_best = (value, 0) if better else (self.best, self.since_best + 1)
        return better and value < self.start

    def judge_start(self, coordinates: float, cell: float) -> bool:
        """Take note of the errors, in A, of the checkpoint that a run starts from, and return whether they are finite.

        Where they are not, any step whose errors are is better.
        """
        value = self._value(coordinates, cell)
        self.start = value if math.isfinite(value) else math.inf
        return math.isfinite(value)

    def _value(self, coordinates: float, cell: float) -> float:
        """Return what validations are judged by."""
        loss = coordinates + self.settings.cell_weight * cell
        return {'loss': loss, 'coordinates': coordinates, 'cell': cell}[self.settings.monitor]

    def describe_best(self) -> str:
        """Return which validation was the best, and whether it is better than the start."""
        text = f'best validation: {self.settings.monitor}'
        if self.best < self.start:
            start = f' ({self.start:.4f} A at the start)' if math.isfinite(self.start) else ''
            return f'{text} {self.best:.4f} A{start}'
        if not math.isfinite(self.start):
            return f'{text} none yet'
        steps = f', as no step was better (at best {self.best:.4f} A)' if math.isfinite(self.best) else ''
        return f'{text} {self.start:.4f} A, that of the start{steps}'

    @property
    def finished(self) -> bool:
        """Whether it is time for the early stop."""
        return self.settings.early_stop is not None and self.since_best >= self.settings.early_stop

    def state(self) -> dict[str, float]:
        """Return what `restore` takes."""
        names = ('start', 'best', 'since_best', 'plateau_best', 'since_reduction', 'reductions')
        return {name: getattr(self, name) for name in names}

    def restore(self, state: dict[str, float]) -> None:
        """Go on from a `state`; those of earlier releases have `best` for `plateau_best`, and may lack `start`."""
        for name, value in {'plateau_best': state['best'], **state}.items():
            setattr(self, name, value)
