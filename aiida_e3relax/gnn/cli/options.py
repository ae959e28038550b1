"""Options that several commands share."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.common.output_files import check_output, check_outputs
from aiida_e3relax.common.threads import MOST_THREADS
from aiida_e3relax.gnn.checkpoints import DEFAULT_CHECKPOINT

MOST_SEED = 2**63 - 1


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add ``--model``."""
    text = 'checkpoint; default: the one that comes with the package'
    parser.add_argument('--model', type=checkpoint_path, default=DEFAULT_CHECKPOINT, help=text)


def whole_number(least: int, most: float = math.inf) -> Callable[[str], int]:
    """Return a type of options that takes whole numbers within these bounds."""

    def read(text: str) -> int:
        limit = f'from {least} on' if most == math.inf else f'from {least} to {most}'
        fault = f'expected a whole number {limit}, found {text!r}'
        try:
            number = int(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(fault) from error
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(fault)
        return number

    return read


def add_seed(parser: argparse._ActionsContainer) -> None:
    """Add ``--seed``."""
    parser.add_argument('--seed', type=whole_number(0, MOST_SEED), default=0, metavar='N', help='default: 0')


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
    add_threads(parser, 'CPU threads; default: as torch finds')


def add_threads(parser: argparse.ArgumentParser, text: str) -> None:
    """Add ``--threads``."""
    parser.add_argument('--threads', type=whole_number(1, MOST_THREADS), metavar='N', help=text)
