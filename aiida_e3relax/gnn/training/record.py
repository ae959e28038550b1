"""The log of a training run, written at every validation: a table, a figure, and TensorBoard's files if asked for."""

from __future__ import annotations

import csv
import importlib.util
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida_e3relax.common.errors import InputError

COLUMNS = (
    'step',
    'learning_rate',
    'train_coordinates_A',
    'train_cell_A',
    'val_coordinates_A',
    'val_cell_A',
    'val_loss',
)


DRAW_EVERY = 30.0
"""Seconds between two drawings of the figure, which takes as long as many steps of a small network."""


class Record:
    """``log.csv``, ``curves.png`` where matplotlib is there, and ``tensorboard/`` where asked, of the run in `folder`.

    Raises
    ------
    InputError
        Where TensorBoard is asked for and not installed.
    """

    def __init__(self, folder: Path, with_tensorboard: bool):
        self.log, self.figure = folder / 'log.csv', folder / 'curves.png'
        self._with_figure = importlib.util.find_spec('matplotlib') is not None
        self._drawn_at, self._is_drawn = -math.inf, True
        self._folder = folder / 'tensorboard'
        self._writer: Any = None
        self._with_tensorboard = with_tensorboard
        if with_tensorboard and importlib.util.find_spec('tensorboard') is None:
            raise InputError('--tensorboard: TensorBoard is not installed: pip install tensorboard')

    def begin(self, step: int) -> None:
        """Begin the log, or drop the rows that an interrupted run wrote after its last saved `step`."""
        rows = []
        if step and self.log.is_file():
            with self.log.open(newline='', encoding='utf-8') as handle:
                rows = [row for row in csv.DictReader(handle) if int(row['step']) <= step]
        unfinished = self.log.with_name(f'.{self.log.name}.part')
        with unfinished.open('w', newline='', encoding='utf-8') as handle:
            writer = csv.DictWriter(handle, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        unfinished.replace(self.log)
        if self._with_tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder), purge_step=step + 1)

    def add(self, row: Mapping[str, float]) -> None:
        """Add the row of a validation, one value per entry of `COLUMNS`; those of training are NaN before a step."""
        with self.log.open('a', newline='', encoding='utf-8') as handle:
            csv.DictWriter(handle, COLUMNS).writerow({name: f'{value:.6g}' for name, value in row.items()})
        self._is_drawn = False
        if time.monotonic() - self._drawn_at >= DRAW_EVERY:
            self.draw()
        if self._writer:
            for name in (name for name in COLUMNS[1:] if math.isfinite(row[name])):
                self._writer.add_scalar(name, row[name], int(row['step']))
            self._writer.flush()

    def draw(self) -> None:
        """Draw the figure, unless it shows all rows; at the end of a run, and now and then before."""
        if self._with_figure and not self._is_drawn:
            from aiida_e3relax.gnn.training.plot import plot_log

            plot_log(self.log, self.figure)
            self._drawn_at, self._is_drawn = time.monotonic(), True
