"""What the commands of experiments share: ``e3relax benchmark``, ``ablate`` and ``sweep``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.common.threads import MOST_THREADS
from aiida_e3relax.gnn.cli.options import add_threads, whole_number

FILES = ('.yaml', '.yml', '.json')

COMMON = """
Training files are those that `e3relax data` wrote; each is a data set of its own. FILE is a YAML or JSON file that says
the same as the options. Every training is a run in a folder of its own, so that the command may be stopped at any time:
the same command goes on, and reads again what is done. docs/experiments.md has all names.
"""


def add_experiment_options(parser: argparse.ArgumentParser, others: str = '') -> None:
    """Add what all these commands take."""
    parser.add_argument(
        'what', nargs='+', metavar='WHAT', help=f'a file of the experiment (YAML, JSON), or training files{others}'
    )
    parser.set_defaults(more_words='what')
    parser.add_argument('--output', type=Path, help='folder of the runs, tables and figures')
    parser.add_argument('--seeds', type=int, help='trainings of each row, with the seeds 0, 1, ... (default: 3)')
    parser.add_argument('--preset', help='of all trainings: short (default) or papers')
    parser.add_argument(
        '--set',
        action='append',
        default=[],
        metavar='NAME=VALUE',
        help='a setting of all trainings, or a size of all models that have it, e.g. --set steps=2000',
    )
    parser.add_argument('--split', nargs='+', metavar='SPLIT', help='splits to measure on (default: test)')
    parser.add_argument('--no-match', action='store_true', help='leave out the match rate, which takes longest')
    parser.add_argument(
        '--inference-batches',
        nargs='*',
        type=int,
        metavar='N',
        help='crystals a batch for which predictions are timed (default: 1 32)',
    )
    parser.add_argument(
        '--jobs', type=whole_number(1, MOST_THREADS), default=1, metavar='N', help='runs side by side (default: 1)'
    )
    add_threads(parser, 'CPU threads of each run; default: the cores, shared among the jobs')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:n (default: auto)')
    parser.add_argument(
        '--prepare', action='store_true', help='check everything, write the files of the runs, and stop'
    )


def run_experiment(kind: str, options: argparse.Namespace, own: dict[str, Any]) -> int:
    """Run what the options say, `own` being what only this command has; return the exit status."""
    import os

    from aiida_e3relax.gnn.device import resolve_device
    from aiida_e3relax.gnn.experiments.config import read_experiment
    from aiida_e3relax.gnn.experiments.execution import Resources, execute, prepare
    from aiida_e3relax.gnn.experiments.report import write_figures, write_tables
    from aiida_e3relax.gnn.experiments.table import outcomes

    path, data = _file_and_data(options.what)
    given = {
        'data': data or None,
        'output': options.output and str(options.output),
        'seeds': options.seeds,
        'preset': options.preset,
        'splits': options.split,
        'match': False if options.no_match else None,
        'inference_batches': options.inference_batches,
        **own,
    }
    given = {name: value for name, value in given.items() if value is not None}
    experiment = read_experiment(kind, path, given, options.set)
    resolve_device(options.device)
    prepare(experiment)
    if options.prepare:
        print('\n'.join(str(folder / 'run.json') for folder in experiment.folders))
        return 0
    threads = options.threads or max((os.cpu_count() or 1) // options.jobs, 1)
    elsewhere = execute(experiment, Resources(options.jobs, threads, options.device), lambda: write_tables(experiment))
    print(write_tables(experiment))
    for figure in write_figures(experiment):
        print(figure)
    ended = outcomes(experiment)
    left = {run.folder for run in elsewhere}
    if held := [o.run.title for o in ended if o.is_pending and o.run.folder in left]:
        print(f'held by other processes: {"; ".join(held)}: the same command writes the tables with them')
    failed = [o for o in ended if o.result is not None and o.result.error]
    return 1 if failed else 0


def _file_and_data(words: list[str]) -> tuple[Path | None, list[str]]:
    """Return the file of the experiment, if one is named, and the training files."""
    files = [word for word in words if word.endswith(FILES)]
    if len(files) > 1:
        raise InputError(f'{files[1]}: expected one file of an experiment, found {len(files)}')
    return (Path(files[0]) if files else None), [word for word in words if word not in files]
