"""``e3relax import-checkpoint``."""

from __future__ import annotations

import argparse
from pathlib import Path

from aiida_e3relax.gnn.cli.options import check_checkpoint_output

HELP = 'turn weights that the authors of E3Relax, E3Relax-H2 or DeepRelax publish into a checkpoint'

DESCRIPTION = """
Turn weights that the authors of E3Relax, E3Relax-H2 or DeepRelax publish into a checkpoint for --model.

FILE is the model.pt that their training writes; download it from where its authors publish it. Nothing is
downloaded here, and no code in the file is run. Its licence is its authors': it holds for the result as well.
"""


def add_to(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser('import-checkpoint', help=HELP, description=DESCRIPTION)
    parser.add_argument('file', type=Path, metavar='FILE', help="the authors' file of weights (.pt)")
    parser.add_argument(
        '--output', type=Path, required=True, help='the checkpoint to write (.pt), with its model card beside it'
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from aiida_e3relax.gnn.checkpoints.import_published import import_published

    check_checkpoint_output(options.output, [options.file])
    checkpoint = import_published(options.file, options.output)
    model = checkpoint.model
    sizes = ', '.join(f'{name} {value}' for name, value in vars(model.hyperparameters).items())
    print(f'{options.file} -> {options.output}')
    print(f'architecture  {checkpoint.architecture}, {sum(p.numel() for p in model.parameters()):,} parameters')
    print(f'sizes         {sizes}')
    first, *_, last = checkpoint.elements
    print(f'elements      Z = {first} to {last}: all that it has weights for, trained or not')
    print(f'hash          {checkpoint.content_hash}')
    print('licence       that of the imported file')
    print(f'\nPredict with it:\n  e3relax predict STRUCTURES --model {options.output} --output predicted.extxyz')
    return 0
