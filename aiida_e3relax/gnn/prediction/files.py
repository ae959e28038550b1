"""A run of `e3relax predict`: its files, its report, and how it ends. Torch is loaded once something can be read."""

from __future__ import annotations

import contextlib
import gc
import os
import platform
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np

from aiida_e3relax.common.errors import SOME_UNREADABLE, InputError, RunError, RunInterruptedError
from aiida_e3relax.common.interrupts import sigterm_as_interrupt
from aiida_e3relax.common.messages import print_result
from aiida_e3relax.common.output_files import check_output
from aiida_e3relax.common.run_errors import as_run_error, error_entry
from aiida_e3relax.crystals.files.errors import CrystalFileError, explain
from aiida_e3relax.crystals.files.reader import check_file
from aiida_e3relax.crystals.files.stream import describe_unreadable
from aiida_e3relax.gnn.checkpoints import missing_checkpoint
from aiida_e3relax.gnn.potentials.registry import PRE_RELAXERS, check_choices, find_potential
from aiida_e3relax.gnn.prediction.details import check_details
from aiida_e3relax.gnn.prediction.fixed_sites import read_fixed_sites
from aiida_e3relax.gnn.prediction.report import ReportWriter, describe_nothing_read
from aiida_e3relax.gnn.prediction.settings import Details, PredictionSettings


def predict_files(
    inputs: list[Path], model: Path | None, output: Path, report: Path | None, settings: PredictionSettings
) -> int:
    """Predict for the crystals of the files `inputs`, write `output` and `report`, and return the exit status.

    There is no `model` where a potential relaxes the crystals as they came.

    What cannot be read is told and passed over: its rows in the report, of status ``unreadable``, come after those of
    the crystals, and the exit status is `SOME_UNREADABLE`. Labels that come again get a number.

    An ``.npz`` holds all structures, the failed ones as they came, with their status; other formats hold those that
    were predicted. `output` appears when the run ends well, and never in part. `report` is written whatever happens:
    a run that fails as a whole states its error there, for programs to read. One that ends well prints a line then.
    """
    start = time.perf_counter()
    of_potential = settings.potential.weights if settings.potential else None
    read = [*inputs, *(path for path in (model, of_potential, settings.fixed_sites) if path is not None)]
    if report is not None:
        check_output(report, '--report', [*read, output])
    with ReportWriter(report) as writer:
        writer.content['versions'] = _versions()
        try:
            with sigterm_as_interrupt():
                check_output(output, '--output', read)
                check_details(output, settings, [*read, output, *([report] if report else [])])
                _check_inputs(inputs, model)
                _check_potential(settings)
                read_fixed_sites(settings.fixed_sites)
                with loading_torch():
                    from aiida_e3relax.gnn.prediction.streaming import predict_to_file
                unreadable, told = predict_to_file(inputs, model, output, settings, writer)
        except BaseException as error:  # an interrupt too: a report without an error would promise an output
            failure = as_run_error(error, 'use a smaller --max-edges, or a larger device', explain)
            writer.content['error'] = error_entry(failure)
            if failure is error or type(failure) in (RunError, RunInterruptedError):
                raise
            raise failure from error
        finally:
            writer.content.setdefault('timings_s', {})['total'] = time.perf_counter() - start
    print_result(told)
    return SOME_UNREADABLE if unreadable else 0


def _check_potential(settings: PredictionSettings) -> None:
    """Raise InputError for a potential that cannot do what it is asked for, before torch is loaded."""
    potential = settings.potential
    if potential is None:
        return
    known = find_potential(potential.name, PRE_RELAXERS)
    check_choices(known, known.nearest_dtype(settings.dtype), potential.weights)
    potential.check_freedom(settings.freedom)
    if not settings.has_network and settings.details != Details():
        raise InputError(
            '--layers, --bonds: they are those of a network, and with --start input none is loaded; leave them out, or '
            'take --start network'
        )


def _check_inputs(inputs: list[Path], model: Path | None) -> None:
    """Raise InputError where no file is there at all, and CheckpointError where no model is, before torch is loaded."""
    faults = []
    for path in inputs:
        try:
            check_file(path)
        except CrystalFileError as error:
            faults.append(describe_unreadable(path, error))
    if inputs and len(faults) == len(inputs):
        raise InputError(describe_nothing_read(inputs, faults))
    if model is not None and not model.is_file():
        raise missing_checkpoint(model)


@contextlib.contextmanager
def loading_torch() -> Iterator[None]:
    """Let the first import of torch take a third less time, within a process that is there for one run.

    What it makes stays for good, so the garbage collector need not look at it, neither now nor when the process ends.
    And `--device` knows CPUs and CUDA alone: no other backends are looked for.
    """
    if 'torch' in sys.modules:
        yield
        return
    os.environ.setdefault('TORCH_DEVICE_BACKEND_AUTOLOAD', '0')
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if collects:
            gc.enable()


def _versions() -> dict[str, str]:
    return {
        'aiida_e3relax': version('aiida-e3relax'),
        'numpy': np.__version__,
        'python': platform.python_version(),
    }
