"""``e3relax train`` and ``e3relax finetune``."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.common.output_files import is_same_file
from aiida_e3relax.gnn.cli.options import add_device, whole_number

if TYPE_CHECKING:
    from aiida_e3relax.gnn.training.config import TrainingConfig

DESCRIPTION = """
Train a model as CONFIG says, a YAML or JSON file with `data` (training files that `e3relax data` wrote), `output` (the
folder of the run), optionally `preset` (short, papers, finetune), and settings; docs/training.md has them all. The same
command again continues an interrupted run where it was. For several GPUs:
torchrun --nproc-per-node N -m aiida_e3relax.gnn.cli train CONFIG.
"""


def add_to(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser('train', help='train a model, or go on training it', description=DESCRIPTION)
    add_run_options(parser)
    parser.set_defaults(run=lambda options: run_training(options, None))


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add what `run_training` needs."""
    parser.add_argument('config', type=Path, metavar='CONFIG', help='YAML or JSON file of the run')
    parser.add_argument(
        '--set',
        action='append',
        default=[],
        metavar='NAME=VALUE',
        help='change a line of the file, or a size of the model, e.g. --set steps=5000 --set features=64',
    )
    parser.add_argument(
        '--stop-after', type=whole_number(1), metavar='N', help='stop at this step; the same command continues later'
    )
    parser.add_argument('--report', type=Path, metavar='FILE', help='write how the run ended into this JSON file')
    parser.add_argument('--tensorboard', action='store_true', help="write TensorBoard's files into the output, too")
    add_device(parser)


def run_training(options: argparse.Namespace, start: Path | None) -> int:
    """Train as the options say, from the weights of a checkpoint where one is given; return the exit status."""
    from aiida_e3relax.gnn.training.report import check_report, training_report

    if options.report is not None:
        check_report(options.report)
    with training_report(options.report) as report:
        _train(options, start, report)
    return 0


def _check_output_folder(config: TrainingConfig, others: list[Path]) -> None:
    """Raise InputError where the run would write its own files over its data, or one of the `others` given to it."""
    from aiida_e3relax.gnn.training.run import FILES

    for given in (*config.data, *others):
        if any(is_same_file(config.output / name, given) for name in FILES):
            raise InputError(
                f'{given}: the run in {config.output} writes a file of its own there: name another `output`, or '
                'another file'
            )


def _train(options: argparse.Namespace, start: Path | None, report: dict[str, Any]) -> None:
    """Train, and put the facts of the run into `report`."""
    from importlib.metadata import version

    from aiida_e3relax.crystals.datasets.pairs_file import read_different_pairs
    from aiida_e3relax.crystals.pairs import Pairs
    from aiida_e3relax.gnn.checkpoints.checkpoint import load_checkpoint
    from aiida_e3relax.gnn.data.replay import draw_replay
    from aiida_e3relax.gnn.device import describe_device, flush_subnormals, prepare_device
    from aiida_e3relax.gnn.training.config import read_config
    from aiida_e3relax.gnn.training.finetune import check_trained_elements
    from aiida_e3relax.gnn.training.processes import launched_processes
    from aiida_e3relax.gnn.training.run import train

    report['versions'] = {name: version(name) for name in ('aiida-e3relax', 'torch', 'numpy')}
    flush_subnormals()  # before loading a checkpoint puts threads to work
    tuned_from = load_checkpoint(start) if start else None
    config = read_config(options.config, options.set, tuned_from)
    replay = options.replay if tuned_from else []
    _check_output_folder(config, [options.config, *replay, *filter(None, (options.report, start))])
    advice = 'leave one out, and let `oversampling` say how often an epoch takes the pairs of a data set'
    parts = read_different_pairs([*config.data, *replay], advice)
    pairs = Pairs.concatenate(parts[: len(config.data)])
    if replay:
        old = Pairs.concatenate(parts[len(config.data) :])
        again = draw_replay(old, pairs, options.replay_share, config.settings.seed)
        print(f'replay: {again.describe()}', file=sys.stderr)
        pairs = Pairs.concatenate([pairs, again.pairs])
    if tuned_from and not options.new_elements:
        check_trained_elements(tuned_from, pairs)
    with launched_processes(options.device) as (processes, name):
        device = prepare_device(name, options.threads)
        report['device'] = str(device)
        report['hardware'] = describe_device(device)
        end = train(
            pairs,
            config.settings,
            config.output,
            device,
            stop_after=options.stop_after,
            tuned_from=tuned_from,
            processes=processes,
            with_tensorboard=options.tensorboard,
        )
    report |= {'steps': config.settings.steps, **dataclasses.asdict(end)}
