"""One run of an experiment in a process of its own: ``python -m aiida_e3relax.gnn.experiments.worker FOLDER``."""

from __future__ import annotations

import argparse
import datetime
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiida_e3relax.common.errors import InputError, RunError, RunInterruptedError
from aiida_e3relax.common.messages import describe_error
from aiida_e3relax.common.out_of_memory import is_out_of_memory
from aiida_e3relax.gnn.experiments.plan import Measurement
from aiida_e3relax.gnn.experiments.results import (
    CONFIG,
    RESULT,
    Result,
    read_measured,
    read_result,
    together,
    write_error,
    write_measured,
    write_result,
)

if TYPE_CHECKING:
    import torch

    from aiida_e3relax.crystals.structures import Crystals
    from aiida_e3relax.gnn.evaluation.evaluate import Measured

ORPHANED = 3
"""Exit status of a run whose parent has ended."""


def main() -> int:
    """Train and measure; what comes of it, an error too, is in the folder of the run afterwards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', type=Path)
    parser.add_argument('--splits', nargs='+', required=True)
    parser.add_argument('--match', action='store_true')
    parser.add_argument('--inference-batches', nargs='*', type=int, default=[])
    parser.add_argument('--device', required=True)
    parser.add_argument('--threads', type=int, required=True)
    parser.add_argument('--jobs', type=int, default=1, help='runs side by side, which the result notes')
    parser.add_argument('--parent', action='store_true', help='end when standard input does')
    options = parser.parse_args()
    if options.parent:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    measurement = Measurement(tuple(options.splits), options.match, tuple(options.inference_batches))
    try:
        result = perform(options.folder, measurement, options.device, options.threads, options.jobs)
        write_result(options.folder, result)
    except (KeyboardInterrupt, RunInterruptedError) as error:  # no result: the same command goes on
        print(str(error) or 'interrupted', file=sys.stderr)
        return RunInterruptedError.exit_status
    except Exception as error:
        if is_out_of_memory(error):
            message = 'the memory does not suffice: give smaller batches or a smaller model'
        else:
            message = str(error) if isinstance(error, RunError) else describe_error(error)
        print(message, file=sys.stderr)
        write_error(options.folder, message)
        if not isinstance(error, RunError):
            raise
        return error.exit_status
    return 0


def _end_with_parent() -> None:
    """End this process when its standard input does, which the parent holds open for as long as it lives."""
    while os.read(sys.stdin.fileno(), 1024):  # not through a buffer, whose lock would abort the interpreter at its end
        pass
    os._exit(ORPHANED)


def perform(folder: Path, measurement: Measurement, device_name: str, threads: int, jobs: int) -> Result:
    """Train as the file in `folder` says, or go on with it, measure what is missing, and return the facts.

    Measures that are there stay, with those of other splits and batches, unless the checkpoint has changed.

    Raises
    ------
    RunError
        For whatever ends a training, and for a split without pairs.
    """
    import torch

    from aiida_e3relax.crystals.datasets.pairs_file import pairs_hash, read_pairs
    from aiida_e3relax.gnn.checkpoints.checkpoint import load_checkpoint
    from aiida_e3relax.gnn.device import device_name as name_of
    from aiida_e3relax.gnn.device import prepare_device
    from aiida_e3relax.gnn.evaluation.evaluate import DUMMY, measure
    from aiida_e3relax.gnn.experiments.training import trained
    from aiida_e3relax.gnn.training.config import read_config
    from aiida_e3relax.gnn.training.validation_split import validation_split

    device = prepare_device(device_name, threads)
    config = read_config(folder / CONFIG, [])
    (file,) = config.data
    pairs = read_pairs(file)
    for split in measurement.splits:
        if split not in pairs.split:
            raise InputError(f'{file}: no pair of the split {split!r}')
    facts: dict[str, Any] = {'data_hash': pairs_hash(pairs)}
    checkpoint, steps_taken = None, False
    if config.settings.architecture != DUMMY:
        facts |= (training := trained(pairs, file, config.settings, folder, device)).facts
        steps_taken = training.steps_taken
        checkpoint = load_checkpoint(folder / 'best.pt')
        facts['content_hash'] = checkpoint.content_hash
        facts['parameters'] = sum(p.numel() for p in checkpoint.model.parameters() if p.requires_grad)
    before = read_result(folder) or Result()
    if (before.data_hash, before.content_hash) != (facts['data_hash'], facts.get('content_hash')):
        (folder / RESULT).unlink(missing_ok=True)  # it tells of another checkpoint than what is written now
        before = Result()
    missing = before.missing(measurement)
    models = {} if checkpoint is None else {'model': checkpoint}
    measured = [
        (split, m)
        for split in missing.splits
        for m in measure(models, pairs.of_split(split), device, measurement.match, with_dummy=checkpoint is None)
    ]
    kept = [(split, m) for split, m in _measured_before(folder, before) if split not in missing.splits]
    write_measured(folder, kept + measured)
    machine = {'device': name_of(device), 'threads': threads, 'torch': torch.__version__}
    session = {**machine, 'date': datetime.date.today().isoformat(), 'jobs': jobs, 'trained': steps_taken}
    session['splits'] = missing.splits
    facts['inference_ms'] = before.inference_ms
    if checkpoint is not None:
        session['validation'] = validation_split(set(pairs.split.tolist()), config.settings.validation)
        sample = pairs.of_split(measurement.splits[0]).unrelaxed
        times, has_kernels = _timed(folder, sample, config.settings.engine, missing, device)
        facts['inference_ms'] |= times
        session |= {'inference_batches': missing.inference_batches, 'has_kernels': has_kernels}
    new = [session] if steps_taken or missing.splits or missing.inference_batches else []
    facts['machine'] = {**machine, 'sessions': before.sessions + new}
    return Result(measurement=together(before.measurement, measurement), **facts)


def _measured_before(folder: Path, before: Result) -> list[tuple[str, Measured]]:
    """Return what was measured of the splits that an earlier result tells of."""
    splits = before.measurement.get('splits', ())
    return [(split, m) for split, m in (read_measured(folder) if splits else ()) if split in splits]


def _timed(
    folder: Path, sample: Crystals, engine: str, missing: Measurement, device: torch.device
) -> tuple[dict[str, dict[str, float] | None], bool | None]:
    """Return the times of predictions of the checkpoint on the engine of its training, and whether it has kernels."""
    from aiida_e3relax.gnn.checkpoints.checkpoint import load_checkpoint
    from aiida_e3relax.gnn.engine.accelerate import with_engine
    from aiida_e3relax.gnn.experiments.timing import has_kernels, inference_times

    if not missing.inference_batches:
        return {}, None
    print('timing predictions', file=sys.stderr)
    model = with_engine(load_checkpoint(folder / 'best.pt').model, engine)  # measuring has made the other one fast
    times = {str(size): inference_times(model, sample, size, device) for size in missing.inference_batches}
    return times, has_kernels(model, device)


if __name__ == '__main__':
    sys.exit(main())
