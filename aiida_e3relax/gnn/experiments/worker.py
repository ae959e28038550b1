"""One run of an experiment in a process of its own: ``python -m aiida_e3relax.gnn.experiments.worker FOLDER``."""

from __future__ import annotations

import argparse
import os
import sys
import threading
from pathlib import Path
from typing import Any

from aiida_e3relax.common.errors import InputError, RunError
from aiida_e3relax.common.messages import describe_error
from aiida_e3relax.common.out_of_memory import is_out_of_memory
from aiida_e3relax.gnn.experiments.plan import Measurement
from aiida_e3relax.gnn.experiments.results import CONFIG, Result, as_stored, write_measured, write_result

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
    parser.add_argument('--parent', action='store_true', help='end when standard input does')
    options = parser.parse_args()
    if options.parent:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    measurement = Measurement(tuple(options.splits), options.match, tuple(options.inference_batches))
    try:
        write_result(options.folder, perform(options.folder, measurement, options.device, options.threads))
    except KeyboardInterrupt:
        return RunError.exit_status
    except Exception as error:
        if is_out_of_memory(error):
            message = 'the memory does not suffice: give smaller batches or a smaller model'
        else:
            message = str(error) if isinstance(error, RunError) else describe_error(error)
        print(message, file=sys.stderr)
        write_result(options.folder, Result(error=message))
        if not isinstance(error, RunError):
            raise
        return error.exit_status
    return 0


def _end_with_parent() -> None:
    """End this process when its standard input does, which the parent holds open for as long as it lives."""
    while sys.stdin.buffer.read(1024):
        pass
    os._exit(ORPHANED)


def perform(folder: Path, measurement: Measurement, device_name: str, threads: int) -> Result:
    """Train as the file in `folder` says, or go on with it, measure the best checkpoint, and return the facts.

    Raises
    ------
    RunError
        For whatever ends a training, and for a split without pairs.
    """
    import torch

    from aiida_e3relax.crystals.datasets.pairs_file import pairs_hash, read_pairs
    from aiida_e3relax.gnn.checkpoints.checkpoint import load_checkpoint, load_content
    from aiida_e3relax.gnn.device import device_name as name_of
    from aiida_e3relax.gnn.device import prepare_device
    from aiida_e3relax.gnn.evaluation.evaluate import DUMMY, measure
    from aiida_e3relax.gnn.experiments.timing import inference_times
    from aiida_e3relax.gnn.training.config import read_config
    from aiida_e3relax.gnn.training.run import train

    device = prepare_device(device_name, threads)
    config = read_config(folder / CONFIG, [])
    (file,) = config.data
    pairs = read_pairs(file)
    facts: dict[str, Any] = {
        'measurement': as_stored(measurement),
        'data_hash': pairs_hash(pairs),
        'machine': {'device': name_of(device), 'threads': threads, 'torch': torch.__version__},
    }
    parts = {split: pairs.of_split(split) for split in measurement.splits}
    for split, part in parts.items():
        if not len(part):
            raise InputError(f'{file}: no pair of the split {split!r}')
    if config.settings.architecture == DUMMY:
        measured = [(split, m) for split, part in parts.items() for m in measure({}, part, device, measurement.match)]
        write_measured(folder, measured)
        return Result(**facts)
    train(pairs, config.settings, folder, device)
    checkpoint = load_checkpoint(folder / 'best.pt')
    measured = [
        (split, m)
        for split, part in parts.items()
        for m in measure({'model': checkpoint}, part, device, measurement.match, with_dummy=False)
    ]
    write_measured(folder, measured)
    print('timing predictions', file=sys.stderr)
    sample = parts[measurement.splits[0]].unrelaxed
    state = load_content(folder / 'last.pt')
    return Result(
        content_hash=checkpoint.content_hash,
        parameters=sum(p.numel() for p in checkpoint.model.parameters() if p.requires_grad),
        steps=state['step'],
        training_s=state['seconds']['wall'],
        training_cpu_s=state['seconds']['cpu'],
        inference_ms={
            str(size): inference_times(checkpoint.model, sample, size, device) for size in measurement.inference_batches
        },
        **facts,
    )


if __name__ == '__main__':
    sys.exit(main())
