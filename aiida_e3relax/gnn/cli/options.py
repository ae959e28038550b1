"""Options that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.common.output_files import check_output, check_outputs
from aiida_e3relax.gnn.checkpoints import DEFAULT_CHECKPOINT


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add ``--model``."""
    text = 'checkpoint; default: the one that comes with the package'
    parser.add_argument('--model', type=checkpoint_path, default=DEFAULT_CHECKPOINT, help=text)


def checkpoint_path(text: str) -> Path:
    """Return the file of a checkpoint that a person names: `default` is the one that comes with the package."""
    return DEFAULT_CHECKPOINT if text == 'default' else Path(text)


def check_checkpoint_output(path: Path, inputs: Iterable[Path]) -> None:
    """Raise InputError unless a checkpoint, with its card, can be written to `path` and replaces none of `inputs`."""
    if path.suffix != '.pt':
        raise InputError(f'{path}: expected a name that ends in .pt')
    check_output(path, '--output', inputs)
    _check_card_beside(path, '.npz', inputs)


def check_training_file_output(
    path: Path, inputs: Iterable[Path], others: Mapping[str, Path | None] | None = None
) -> None:
    """Raise InputError unless a training file, with its card, can be written to `path` and replaces none of `inputs`.

    `others` are further outputs by their options.
    """
    if path.suffix != '.npz':
        raise InputError(f'{path}: a training file is an .npz: name it {path}.npz')
    check_outputs({'--output': path, **(others or {})}, inputs)
    _check_card_beside(path, '.pt', inputs)


def _check_card_beside(path: Path, suffix: str, inputs: Iterable[Path]) -> None:
    """Raise InputError unless the card of `path` can be written; it may be that of a file that ends in `suffix`."""
    card, other = path.with_suffix('.card.json'), path.with_suffix(suffix)
    check_output(card, 'the card beside --output,', inputs)
    if card.exists() and other.exists() and not path.exists():
        raise InputError(f'--output {path}: {card} is the card of {other}, which would be lost: name another file')


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add ``--device`` and ``--threads``."""
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:n (default: auto)')
    parser.add_argument('--threads', type=int, help='CPU threads; default: as torch finds')
