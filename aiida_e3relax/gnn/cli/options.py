"""Options that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.gnn.checkpoints import DEFAULT_CHECKPOINT


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add ``--model``."""
    text = 'checkpoint; default: the one that comes with the package'
    parser.add_argument('--model', type=checkpoint_path, default=DEFAULT_CHECKPOINT, help=text)


def checkpoint_path(text: str) -> Path:
    """Return the file of a checkpoint that a person names: `default` is the one that comes with the package."""
    return DEFAULT_CHECKPOINT if text == 'default' else Path(text)


def check_checkpoint_output(path: Path) -> None:
    """Raise InputError unless a checkpoint can be written to `path`."""
    if path.suffix != '.pt':
        raise InputError(f'{path}: expected a name that ends in .pt')
    if not path.parent.is_dir():
        raise InputError(f'{path}: the folder {path.parent} does not exist')


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add ``--device`` and ``--threads``."""
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:n (default: auto)')
    parser.add_argument('--threads', type=int, help='CPU threads; default: as torch finds')
