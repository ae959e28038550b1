"""Training of a model on aligned pairs, resumable to the step."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from aiida_e3relax.gnn.batch import CrystalBatch, Geometry, make_batch
from aiida_e3relax.gnn.checkpoint import load_content, save_atomically, save_checkpoint
from aiida_e3relax.gnn.engine import with_engine
from aiida_e3relax.gnn.errors import TrainingError
from aiida_e3relax.gnn.graph import Graph
from aiida_e3relax.gnn.model_card import write_card
from aiida_e3relax.gnn.models import make_model
from aiida_e3relax.gnn.models.base import RelaxationModel
from aiida_e3relax.gnn.pairs import SPLITS, Pairs, aligned
from aiida_e3relax.gnn.progress import ProgressLine
from aiida_e3relax.gnn.training_settings import TrainingSettings


class PreparedPairs:
    """Aligned pairs as tensors on a device, with their neighbour graphs, searched once; batches are cut out of them."""

    def __init__(self, pairs: Pairs, model: RelaxationModel, device: torch.device):
        pairs = aligned(pairs)
        self.labels = pairs.unrelaxed.labels
        whole = make_batch(pairs.unrelaxed, model.graph, device)
        self.batch = whole
        self.target = Geometry(
            torch.as_tensor(pairs.relaxed.fractional(), dtype=torch.float32, device=device),
            torch.as_tensor(pairs.relaxed.cell, dtype=torch.float32, device=device),
        )
        self.n_edges = torch.bincount(whole.structure_index[whole.graph.centre], minlength=len(whole.n_atoms))
        self.first_atom = torch.cumsum(whole.n_atoms, 0) - whole.n_atoms
        self.first_edge = torch.cumsum(self.n_edges, 0) - self.n_edges

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, indices: np.ndarray) -> tuple[CrystalBatch, Geometry]:
        """Return the pairs at `indices` as the model's input and its target."""
        whole, chosen = self.batch, torch.as_tensor(indices, device=self.batch.numbers.device)
        n_atoms, n_edges = whole.n_atoms[chosen], self.n_edges[chosen]
        atoms, _ = _ranges(self.first_atom[chosen], n_atoms)
        edges, crystal = _ranges(self.first_edge[chosen], n_edges)
        renumber = (torch.cumsum(n_atoms, 0) - n_atoms - self.first_atom[chosen])[crystal]
        graph = Graph(
            whole.graph.centre[edges] + renumber, whole.graph.neighbour[edges] + renumber, whole.graph.offset[edges]
        )
        batch = CrystalBatch(
            numbers=whole.numbers[atoms],
            fractional=whole.fractional[atoms],
            cell=whole.cell[chosen],
            n_atoms=n_atoms,
            structure_index=torch.repeat_interleave(torch.arange(len(chosen), device=chosen.device), n_atoms),
            graph=graph,
        )
        return batch, Geometry(self.target.fractional[atoms], self.target.cell[chosen])


def _ranges(first: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Return the concatenated ranges ``first[k] .. first[k] + count[k] - 1`` and the k of each entry."""
    owner = torch.repeat_interleave(torch.arange(len(count), device=count.device), count)
    rank = torch.arange(len(owner), device=count.device) - (torch.cumsum(count, 0) - count)[owner]
    return first[owner] + rank, owner


def batch_indices(n_pairs: int, settings: TrainingSettings, step: int) -> np.ndarray:
    """Return which pairs make up the batch of `step` (from 0): a function of the seed and the step alone."""
    epoch, index = divmod(step, n_pairs // settings.batch_size)
    order = np.random.default_rng([settings.seed, epoch]).permutation(n_pairs)
    return order[index * settings.batch_size : (index + 1) * settings.batch_size]


def train(pairs: Pairs, settings: TrainingSettings, output: Path, device: torch.device, stop_after: int | None = None):
    """Train on the train split of `pairs`, validate on its val split, and keep everything in `output`.

    `output` receives ``last.pt`` (the state to resume from, every validation), ``best.pt`` (the checkpoint with the
    lowest validation loss) with its card, ``log.csv`` and ``settings.json``. A run found there is continued: its losses
    are those of a run that never stopped.

    Parameters
    ----------
    stop_after
        Stop after this many steps in all, at the state to resume from; None runs to the end.

    Raises
    ------
    TrainingError
        For an output folder of a run with other settings or other data, and for a loss that is not finite, naming
        the pairs.
    """
    run = _Run(pairs, settings, output, device)
    run.resume()
    end = settings.steps if stop_after is None else min(stop_after, settings.steps)
    line = ProgressLine('training', settings.steps, run.step)
    while run.step < end:
        errors = run.train_step()
        line.advance(note=f'coordinates {errors[0]:.3f} A, cell {errors[1]:.3f} A')
        if run.step % settings.validate_every == 0 or run.step == end:
            run.validate()
    line.close(f'best validation loss {run.best:.4f}')


class _Run:
    """The moving parts of a training run: model, running average, optimiser, counters and files."""

    def __init__(self, pairs: Pairs, settings: TrainingSettings, output: Path, device: torch.device):
        self.settings, self.output, self.device = settings, output, device
        torch.manual_seed(settings.seed)
        self.model, self.average = (
            with_engine(make_model(settings.architecture, settings.hyperparameters).to(device), settings.engine)
            for _ in range(2)
        )
        self.average.load_state_dict(self.model.state_dict())
        if not any(True for _ in self.model.parameters()):
            raise TrainingError(f'{settings.architecture} has no weights to train: choose another architecture')
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
        )
        splits = {}
        for split, least in (('train', settings.batch_size), ('val', 1)):
            chosen = pairs.of_split(split)
            if len(chosen) < least:
                raise TrainingError(
                    f'the data hold {len(chosen)} pairs of the split {split!r}; at least {least} needed'
                )
            if split == 'train':
                chosen = settings.augmentation.apply(chosen, settings.seed)
            splits[split] = PreparedPairs(chosen, self.model, device)
        self.data_hash = data_hash(pairs)
        self.elements = torch.unique(splits['train'].batch.numbers).tolist()
        self.data = {
            str(source): {split: int(((pairs.source == source) & (pairs.split == split)).sum()) for split in SPLITS}
            for source in np.unique(pairs.source)
        }
        self.training, self.validation = splits['train'], splits['val']
        self.step, self.best = 0, math.inf
        self.running = np.zeros(2)

    def resume(self) -> None:
        """Read ``last.pt`` if there is one; else begin the log."""
        self.output.mkdir(parents=True, exist_ok=True)
        settings_file, state_file = self.output / 'settings.json', self.output / 'last.pt'
        stated = json.dumps(dataclasses.asdict(self.settings), indent=2)
        if state_file.is_file():
            if settings_file.read_text(encoding='utf-8') != stated:
                raise TrainingError(
                    f'{self.output} holds a run with other settings ({settings_file}): '
                    'name another --output, or repeat its settings to continue it'
                )
            state = load_content(state_file)
            if state['data_hash'] != self.data_hash:
                raise TrainingError(
                    f'{self.output} holds a run on other data: name another --output, or give its data to continue it'
                )
            self.model.load_state_dict(state['model'])
            self.average.load_state_dict(state['average'])
            self.optimizer.load_state_dict(state['optimizer'])
            self.step, self.best = state['step'], state['best']
            self.running = np.array(state['running'])
            self._rewind_log()
        else:
            settings_file.write_text(stated, encoding='utf-8')
            with (self.output / 'log.csv').open('w', newline='', encoding='utf-8') as handle:
                csv.writer(handle).writerow(_LOG_COLUMNS)

    def train_step(self) -> np.ndarray:
        """Take one optimiser step and return the running mean errors (coordinates, cell) in A."""
        for group in self.optimizer.param_groups:
            group['lr'] = self.settings.learning_rate_at(self.step)
        indices = batch_indices(len(self.training), self.settings, self.step)
        batch, target = self.training.select(indices)
        losses, errors = self.model.loss(batch, target, self.settings.cell_weight)
        if not torch.isfinite(losses).all():
            names = self.training.labels[indices][~torch.isfinite(losses).cpu().numpy()].tolist()
            raise TrainingError(
                f'the loss is not finite at step {self.step} for {names}: look at these pairs; '
                f'the last good state is {self.output / "last.pt"}'
            )
        self.optimizer.zero_grad()
        losses.mean().backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.gradient_clip)
        self.optimizer.step()
        self.step += 1
        self._update_average()
        fresh = errors.double().mean(dim=0).cpu().numpy()
        self.running = fresh if self.step == 1 else 0.99 * self.running + 0.01 * fresh
        return self.running

    def _update_average(self) -> None:
        decay = min(self.settings.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)

    def validate(self) -> None:
        """Measure the averaged weights on the validation split, log it, and write the files."""
        errors = validation_errors(self.average, self.validation)
        loss = float(errors[0] + self.settings.cell_weight * errors[1])
        row = [self.step, self.settings.learning_rate_at(self.step), *self.running, *errors.tolist(), loss]
        with (self.output / 'log.csv').open('a', newline='', encoding='utf-8') as handle:
            csv.writer(handle).writerow([f'{value:.6g}' for value in row])
        if loss < self.best:
            self.best = loss
            training = {
                'settings': dataclasses.asdict(self.settings),
                'step': self.step,
                'validation_coordinates_A': float(errors[0]),
                'validation_cell_A': float(errors[1]),
                'data': self.data,
            }
            best, architecture = self.output / 'best.pt', self.settings.architecture
            save_checkpoint(best, architecture, self.average, self.elements, training)
            card = {'name': self.output.resolve().name, 'architecture': architecture, 'version': 1}
            write_card(best, {**card, 'atomic_numbers': self.elements, 'training': training})
        state = {
            'model': self.model.state_dict(),
            'average': self.average.state_dict(),
            'optimizer': self.optimizer.state_dict(),
            'step': self.step,
            'data_hash': self.data_hash,
            'best': self.best,
            'running': self.running.tolist(),
        }
        save_atomically(self.output / 'last.pt', state)

    def _rewind_log(self) -> None:
        """Drop rows that an interrupted run wrote after its last saved state."""
        path = self.output / 'log.csv'
        with path.open(newline='', encoding='utf-8') as handle:
            rows = list(csv.reader(handle))
        with path.open('w', newline='', encoding='utf-8') as handle:
            csv.writer(handle).writerows([rows[0], *(row for row in rows[1:] if int(row[0]) <= self.step)])


_LOG_COLUMNS = [
    'step',
    'learning_rate',
    'train_coordinates_A',
    'train_cell_A',
    'val_coordinates_A',
    'val_cell_A',
    'val_loss',
]


def data_hash(pairs: Pairs) -> str:
    """Return a hexadecimal digest of the species, geometries and splits of `pairs`."""
    digest = hashlib.sha256()
    for crystals in (pairs.unrelaxed, pairs.relaxed):
        for array in (crystals.n_atoms, crystals.numbers, crystals.positions, crystals.cell):
            digest.update(array.tobytes())
    digest.update(' '.join(pairs.split).encode())
    return digest.hexdigest()


@torch.no_grad()
def validation_errors(model: RelaxationModel, pairs: PreparedPairs, batch_size: int = 64) -> Tensor:
    """Return the mean over `pairs` of the last layer's coordinate and cell errors ``(2,)``, in A."""
    by_size = torch.argsort(pairs.batch.n_atoms, stable=True).cpu().numpy()
    errors = []
    for start in range(0, len(pairs), batch_size):
        batch, target = pairs.select(by_size[start : start + batch_size])
        errors.append(model.loss(batch, target, 1.0)[1])
    return torch.cat(errors).mean(dim=0).cpu()
