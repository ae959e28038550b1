"""A training run, resumable to the step."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from aiida_e3relax.common.errors import TrainingError, TrainingInterruptedError
from aiida_e3relax.common.file_lock import file_lock
from aiida_e3relax.common.interrupts import sigterm_as_request
from aiida_e3relax.common.messages import describe_error
from aiida_e3relax.common.progress import ProgressLine
from aiida_e3relax.crystals.datasets.pairs_file import pairs_hash
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.gnn.checkpoints.checkpoint import (
    Checkpoint,
    load_content,
    mend_card,
    save_atomically,
    save_checkpoint,
)
from aiida_e3relax.gnn.checkpoints.frames import OWN, frame_name
from aiida_e3relax.gnn.checkpoints.model_card import inherit, write_card
from aiida_e3relax.gnn.engine.accelerate import with_engine
from aiida_e3relax.gnn.models.base import RelaxationModel
from aiida_e3relax.gnn.models.registry import make_model
from aiida_e3relax.gnn.training.batches import BatchOrder, PreparedPairs, times_an_epoch, validation_errors
from aiida_e3relax.gnn.training.ensembles import ARCHITECTURE as ENSEMBLE
from aiida_e3relax.gnn.training.ensembles import recalibrate
from aiida_e3relax.gnn.training.finetune import fit_batches
from aiida_e3relax.gnn.training.leaks import find_leaks
from aiida_e3relax.gnn.training.precision import with_precision
from aiida_e3relax.gnn.training.processes import ALONE, TrainingProcesses
from aiida_e3relax.gnn.training.record import Record
from aiida_e3relax.gnn.training.schedule import Schedule
from aiida_e3relax.gnn.training.settings import CALIBRATION_PAIRS, TrainingSettings, loss_settings, read_settings
from aiida_e3relax.gnn.training.subset import with_training_share
from aiida_e3relax.gnn.training.targets import symmetrised_targets
from aiida_e3relax.gnn.training.validation_split import validation_split

FILES = ('best.pt', 'best.card.json', 'last.pt', 'settings.json', 'log.csv', 'curves.png')
"""What a run writes into its folder, beside those of TensorBoard."""


def train(
    pairs: Pairs,
    settings: TrainingSettings,
    output: Path,
    device: torch.device,
    stop_after: int | None = None,
    tuned_from: Checkpoint | None = None,
    processes: TrainingProcesses = ALONE,
    with_tensorboard: bool = False,
) -> TrainingEnd:
    """Train on the train split of `pairs`, validate on another, keep everything in `output`, and return how it ended.

    `output` receives ``last.pt`` (the state to resume from, every validation, with the seconds that its steps took),
    ``best.pt`` (the checkpoint of the best validation) with its card, ``settings.json``, and what `Record` writes. A
    run found there is continued: its losses are those of a run that never stopped. SIGTERM ends a single process after
    the step that it is in, at a state to resume from.

    Parameters
    ----------
    stop_after
        Stop after this many steps in all, at the state to resume from; None runs to the end.
    tuned_from
        Start from the weights of this checkpoint, whose model must be that of `settings`. It is validated first, and
        stays the best where no step makes it better. Batches are no larger than all that there is to train on, which
        is little where a model is tuned.
    processes
        Those that share the batches; each calls this function with the same arguments and a device of its own.
    with_tensorboard
        Write TensorBoard's files, too.

    Raises
    ------
    TrainingError
        For an output folder in which another process trains, or of a run with other settings, data or start, for
        oversampling of a set that is not there, for a loss or a gradient that is not finite, naming the pairs, and for
        an uncertainty that cannot be scaled where the settings need it.
    InputError
        Where TensorBoard is asked for and not installed.
    TrainingInterruptedError
        After SIGTERM.
    """
    if tuned_from:
        n_pairs = len(with_training_share(pairs, settings.training_share).of_split('train'))
        settings = fit_batches(settings, n_pairs, processes.count)
    if settings.batch_size % processes.count:
        raise TrainingError(
            f'batch_size {settings.batch_size} does not divide among {processes.count} processes: '
            'choose a multiple of their number'
        )
    # Several processes would stop at different steps, and wait for each other.
    ending = sigterm_as_request() if processes.count == 1 else contextlib.nullcontext(lambda: False)
    with _alone_in(output, processes):
        run = TrainingRun(pairs, settings, output, device, tuned_from, processes, with_tensorboard)
        with ending as is_ended:
            run.resume()
            if tuned_from and not run.step:
                run.validate_start()
            line = ProgressLine('training', settings.steps, run.step) if processes.first else None
            end = settings.steps if stop_after is None else min(stop_after, settings.steps)
            _take_steps(run, end, line, is_ended)
            is_complete = run.schedule.finished or run.step == settings.steps
            if is_complete and processes.first and settings.architecture == ENSEMBLE:
                _calibrate_ensemble(
                    output, pairs.of_split(_held_back(pairs, settings)), device, settings.needs_calibration
                )
            if processes.first:
                run.record.draw()
    if line:
        stopped = ', stopped early' if run.schedule.finished else ''
        line.close(f'{run.schedule.describe_best()}{stopped}')
    return TrainingEnd(run.step, is_complete, run.schedule.finished, **run.leaks.facts())


@contextlib.contextmanager
def _alone_in(output: Path, processes: TrainingProcesses) -> Iterator[None]:
    """Hold the lock of the folder `output`, as the first of the `processes`.

    Raises TrainingError where another process trains there, and where the folder cannot be made. Where the file system
    has no locks nobody is there.
    """
    _make_folder(output)
    if not processes.first:
        yield
        return
    with file_lock(output / '.training.lock', needs_locks=False) as held:
        if held is None:
            raise TrainingError(f'{output}: another process trains there: wait for its end, or name another output')
        yield


def _make_folder(output: Path) -> None:
    """Make the folder `output`; raises TrainingError."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise TrainingError(f'output {output}: this folder cannot be made: {reason}') from error


def _take_steps(run: TrainingRun, end: int, line: ProgressLine | None, is_ended: Callable[[], bool]) -> None:
    """Train, validate and save until the step `end`, or an early one.

    Raises TrainingInterruptedError once `is_ended` says that SIGTERM has come.
    """
    while run.step < end and not run.schedule.finished:
        errors = run.train_step()
        if line:
            line.advance(note=f'coordinates {errors[0]:.3f} A, cell {errors[1]:.3f} A')
        if run.step % run.settings.validate_every == 0 or run.step == run.settings.steps:
            run.validate()
            run.save()
        elif run.step == end or is_ended():
            run.save()
        if is_ended() and run.step < end and not run.schedule.finished:
            message = f'ended by SIGTERM after step {run.step}: the same command goes on there'
            raise TrainingInterruptedError(message, run.step)


def _calibrate_ensemble(output: Path, pairs: Pairs, device: torch.device, is_needed: bool) -> None:
    """Scale the uncertainty of the best checkpoint to its errors on the pairs to validate on, if they are enough.

    Raises TrainingError where they are not, and it `is_needed`.
    """
    if recalibrate(output / 'best.pt', pairs, device):
        print(f'uncertainty: scaled to the errors on {len(pairs)} pairs to validate on', file=sys.stderr)
        return
    told = (
        f'not scaled to errors, for which {CALIBRATION_PAIRS} pairs to validate on are needed that have an uncertainty '
        f'and an error of bonds, of {len(pairs)}'
    )
    if is_needed:
        raise TrainingError(f'the uncertainty is {told}: give more of them, or leave needs_calibration away')
    print(
        f'warning: uncertainty: {told}: take what is stated for an order of errors, not for their size', file=sys.stderr
    )


@dataclasses.dataclass(frozen=True)
class TrainingEnd:
    """How a call of `train` ended: after which step, whether the run is complete, and whether by an early stop.

    The counts are those of `Leaks`, found in the data.
    """

    step: int
    is_complete: bool
    has_stopped_early: bool
    validation_pairs_in_train: int
    repeated_training_pairs: int


class TrainingRun:
    """The moving parts of a training run: model, running average, optimiser, counters and files; see `train`."""

    def __init__(
        self,
        pairs: Pairs,
        settings: TrainingSettings,
        output: Path,
        device: torch.device,
        tuned_from: Checkpoint | None = None,
        processes: TrainingProcesses = ALONE,
        with_tensorboard: bool = False,
    ):
        self.settings, self.output, self.processes, self.tuned_from = settings, output, processes, tuned_from
        self.record = Record(output, with_tensorboard)
        pairs = with_training_share(pairs, settings.training_share)
        _make_folder(output)
        torch.manual_seed(settings.seed)
        try:
            self.model, self.average = (
                with_engine(make_model(settings.architecture, settings.hyperparameters).to(device), settings.engine)
                for _ in range(2)
            )
        except (ValueError, TypeError) as error:
            raise TrainingError(
                f'{settings.architecture} cannot be made with the hyper-parameters {settings.hyperparameters}: {error}'
            ) from error
        if not any(True for _ in self.model.parameters()):
            raise TrainingError(f'{settings.architecture} has no weights to train: choose another architecture')
        self.loss = loss_settings(settings, 'settings')
        if tuned_from:
            self.model.load_state_dict(tuned_from.model.state_dict())
        self.average.load_state_dict(self.model.state_dict())
        self.average.eval()  # validated and shipped as it predicts: no dropout, no statistics of the validation split
        self.model = with_precision(self.model, settings.precision)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            settings.learning_rate,
            weight_decay=settings.weight_decay,
            amsgrad=settings.amsgrad,
        )
        self.training, self.validation = _prepared_splits(pairs, settings, self.model, device, processes.first)
        self.leaks = find_leaks(pairs, _held_back(pairs, settings))
        if processes.first and (told := self.leaks.describe()):
            print(told, file=sys.stderr)
        self.order = BatchOrder(
            self.training.n_edges.cpu().numpy(),
            settings.batch_size,
            settings.seed,
            settings.balanced_batches,
            times_an_epoch(self.training.source, settings.oversampling),
        )
        self.data_hash = pairs_hash(pairs)
        elements = set(torch.unique(self.training.numbers).tolist())
        self.elements = sorted(elements | set(tuned_from.elements if tuned_from else ()))
        self.data, self.kinds = pairs.count(pairs.source), pairs.count(pairs.kinds)
        self.schedule = Schedule(settings)
        self.step = 0
        self.running = np.zeros(2)
        self._seconds, self._clock, self._device = np.zeros(2), _clock(), device

    def resume(self) -> None:
        """Read ``last.pt`` if there is one; else begin."""
        settings_file, state_file = self.output / 'settings.json', self.output / 'last.pt'
        if state_file.is_file():
            check_same_settings(self.settings, settings_file)
            state = load_content(state_file)
            try:
                self._restore(state)
            except (KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
                raise TrainingError(
                    f'{state_file}: does not hold the state of this run ({describe_error(error)}): '
                    'name another output, or remove the file to begin anew'
                ) from error
            if self.processes.first:
                mend_card(self.output / 'best.pt')
        elif self.processes.first:
            settings_file.write_text(json.dumps(dataclasses.asdict(self.settings), indent=2), encoding='utf-8')
        if self.processes.first:
            self.record.begin(self.step)
        self._clock = _clock()

    def _restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state` that `save` wrote, of a run on the same data with the same start."""
        if state['data_hash'] != self.data_hash:
            raise TrainingError(
                f'{self.output} holds a run on other data: name another output, or give its data to continue it'
            )
        if state.get('tuned_from') != self._start_hash:  # runs of earlier releases start from scratch
            raise TrainingError(
                f'{self.output} holds a run that started from '
                f'{state.get("tuned_from") or "scratch"}, not from {self._start_hash or "scratch"}: '
                'name another output, or start as it did to continue it'
            )
        if state.get('frame', OWN) != frame_name(self.model):
            raise TrainingError(
                f'{self.output} holds a run of an earlier release, which trained {self.settings.architecture} in '
                'another frame than it predicts in: name another output to train it anew'
            )
        self.model.load_state_dict(state['model'])
        self.average.load_state_dict(state['average'])
        self.optimizer.load_state_dict(state['optimizer'])
        self.step = state['step']
        self.running = np.array(state['running'])
        self._seconds = np.array([state.get('seconds', {}).get(kind, np.nan) for kind in ('wall', 'cpu')])
        self.schedule.restore(state.get('schedule') or {'best': state['best']})  # the latter: earlier releases

    @property
    def _start_hash(self) -> str | None:
        return self.tuned_from.content_hash if self.tuned_from else None

    def train_step(self) -> np.ndarray:
        """Take one optimiser step and return the running mean errors (coordinates, cell) in A.

        Raises TrainingError for a loss or a gradient that is not finite; the weights stay what they were.
        """
        for group in self.optimizer.param_groups:
            group['lr'] = self.schedule.learning_rate(self.step)
        indices = self.processes.share(self.order.of(self.step))
        batch, target = self.training.select(indices)
        losses, errors = self.model.loss(batch, target, self.loss)
        self.optimizer.zero_grad()
        losses.mean().backward()
        self.processes.average_gradients(self.model.parameters())
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.gradient_clip)
        bad = ~torch.isfinite(losses)
        facts = torch.cat([errors.double().sum(dim=0), bad.sum()[None], norm.double()[None]])
        *total, n_bad, norms = self.processes.total(facts).cpu().numpy()  # the device is waited for here alone
        if n_bad:
            self._raise_not_finite('loss', indices[bad.cpu().numpy()])
        if not math.isfinite(norms):  # clipping has spoilt every entry
            self._raise_not_finite('gradient', indices)
        self.optimizer.step()
        self.step += 1
        self._update_average()
        fresh = np.array(total) / self.settings.batch_size
        self.running = self.running + max(1 / self.step, 0.01) * (fresh - self.running)
        return self.running

    def _raise_not_finite(self, what: str, indices: NDArray[np.int64]) -> NoReturn:
        """Raise TrainingError for what is not finite, before it is in the weights; `indices` are this process's."""
        names = self.processes.gathered(self.training.labels[indices].tolist())
        state = self.output / 'last.pt'
        left = f'; the last good state is {state}' if state.is_file() else ''
        advice = 'look at these pairs' if what == 'loss' else 'look at these pairs, or give a smaller learning_rate'
        raise TrainingError(f'the {what} is not finite at step {self.step} for {names}: {advice}{left}')

    def _update_average(self) -> None:
        decay = self.schedule.ema_decay(self.step)
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)
            if buffers := list(self.average.buffers()):  # as statistics of batch norms, which are averages already
                torch._foreach_copy_(buffers, list(self.model.buffers()))

    def validate_start(self) -> None:
        """Measure the checkpoint that the run starts from as `validate` does, and keep it as the best so far."""
        coordinates, cell = self._validation_errors()
        is_best = self.schedule.judge_start(coordinates, cell)
        self._keep(coordinates, cell, self.schedule.learning_rate(0), np.full(2, np.nan), is_best)

    def validate(self) -> None:
        """Measure the averaged weights on the validation split, judge and log them, and keep the best."""
        rate = self.schedule.learning_rate(self.step)
        coordinates, cell = self._validation_errors()
        self._keep(coordinates, cell, rate, self.running, best=self.schedule.judge(coordinates, cell))

    def _validation_errors(self) -> list[float]:
        balanced = self.settings.balanced_validation
        return validation_errors(self.average, self.validation, self.loss, self.processes, balanced).tolist()

    def _keep(self, coordinates: float, cell: float, rate: float, training: np.ndarray, best: bool) -> None:
        """Log a validation beside the errors in `training`, and write the checkpoint if it is the best."""
        if not self.processes.first:
            return
        row = {
            'step': self.step,
            'learning_rate': rate,
            'train_coordinates_A': training[0],
            'train_cell_A': training[1],
            'val_coordinates_A': coordinates,
            'val_cell_A': cell,
            'val_loss': coordinates + self.settings.cell_weight * cell,
        }
        self.record.add(row)
        if best:
            self._write_checkpoint(coordinates, cell)

    def save(self) -> None:
        """Write ``last.pt``."""
        spent = _clock() - self._clock
        spent[1] = self.processes.total(torch.tensor(spent[1], device=self._device)).item()
        seconds = self._seconds + spent
        if not self.processes.first:
            return
        state = {
            'model': self.model.state_dict(),
            'average': self.average.state_dict(),
            'optimizer': self.optimizer.state_dict(),
            'step': self.step,
            'data_hash': self.data_hash,
            'tuned_from': self._start_hash,
            'frame': frame_name(self.model),
            'schedule': self.schedule.state(),
            'running': self.running.tolist(),
            'seconds': dict(zip(('wall', 'cpu'), seconds.tolist(), strict=True)),
        }
        save_atomically(self.output / 'last.pt', state)

    def _write_checkpoint(self, coordinates: float, cell: float) -> None:
        """Write ``best.pt`` and its card."""
        training: dict[str, Any] = {
            'settings': dataclasses.asdict(self.settings),
            'step': self.step,
            'validation_coordinates_A': coordinates,
            'validation_cell_A': cell,
            'data': self.data,
            **{name: count for name, count in self.leaks.facts().items() if count},
            **({'kinds': self.kinds} if self.kinds else {}),
            'frame': frame_name(self.model),
        }
        if self.tuned_from:
            training['tuned_from'] = {'content_hash': self._start_hash, 'training': self.tuned_from.training}
            if self.tuned_from.reference is not None:  # environments as other weights see them
                training['tuned_from']['reference_is_kept'] = False
        best, architecture = self.output / 'best.pt', self.settings.architecture
        save_checkpoint(best, architecture, self.average, self.elements, training)
        card = {'name': self.output.resolve().name, 'architecture': architecture, 'version': 1}
        card |= inherit([self.tuned_from.card]) if self.tuned_from else {}
        write_card(best, {**card, 'atomic_numbers': self.elements, 'training': training})


def _clock() -> np.ndarray:
    """Return the time now and the processor time of this process so far, in s; only differences mean something."""
    return np.array([time.perf_counter(), time.process_time()])


def _prepared_splits(
    pairs: Pairs, settings: TrainingSettings, model: RelaxationModel, device: torch.device, shows_progress: bool
) -> tuple[PreparedPairs, PreparedPairs]:
    """Return the pairs to train on, with their perturbed copies, and those to validate on."""
    training = pairs.of_split('train')
    if (found := len(training)) < (least := settings.batch_size):
        advice = (
            f'lower batch_size to {found} or less (--set batch_size={found})'
            if found
            else 'make a split with `e3relax data FILE.npz --output NEW.npz --split random`'
        )
        if settings.training_share < 1:
            advice = f'raise training_share, which is {settings.training_share:g}, or {advice}'
        raise TrainingError(f"{found} pairs of the split 'train' to train on; at least {least} needed: {advice}")
    held_back = _held_back(pairs, settings)
    if shows_progress and held_back != 'val':
        print(f'validation on the split {held_back}', file=sys.stderr)
    if settings.symmetric_targets:
        training = symmetrised_targets(training, shows_progress)
    training = settings.augmentation.apply(training, settings.seed)
    align, loss = settings.align_targets, settings.loss
    validation = PreparedPairs(pairs.of_split(held_back), model, device, align, loss)
    return PreparedPairs(training, model, device, align, loss), validation


def _held_back(pairs: Pairs, settings: TrainingSettings) -> str:
    """Return the split to validate on."""
    return validation_split(set(pairs.split.tolist()), settings.validation)


def check_same_settings(settings: TrainingSettings, path: Path) -> None:
    """Raise TrainingError unless `settings` are those of the file at `path`; earlier releases left later names out."""
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError) as error:
        raise TrainingError(
            f'{path}: cannot be read, but {path.parent} holds a run: name another output ({error})'
        ) from error
    if isinstance(content, dict):  # the file of `e3relax train` has two more
        content = {name: value for name, value in content.items() if name not in ('data', 'output')}
    there = read_settings(content, str(path))
    names = [field.name for field in dataclasses.fields(settings)]
    changed = [
        f'{name} {getattr(there, name)!r} there, {getattr(settings, name)!r} here'
        for name in names
        if getattr(there, name) != getattr(settings, name)
    ]
    if changed:
        raise TrainingError(
            f'{path.parent} holds a run with other settings: {"; ".join(changed)}; '
            'name another output, or repeat its settings to continue it'
        )
