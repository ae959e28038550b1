"""The runs of an experiment, each in a process of its own, some side by side."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from aiida_e3relax.common.errors import InputError, RunInterruptedError, TrainingError
from aiida_e3relax.common.file_lock import file_lock
from aiida_e3relax.common.interrupts import sigterm_as_interrupt
from aiida_e3relax.common.messages import printable, short
from aiida_e3relax.common.progress import ProgressLine
from aiida_e3relax.crystals.datasets.pairs_file import pairs_hash, read_pairs
from aiida_e3relax.gnn.experiments.plan import Experiment, Measurement, Run
from aiida_e3relax.gnn.experiments.results import CONFIG, LOCK, LOG, clear_error, read_result, write_error
from aiida_e3relax.gnn.training.run import check_same_settings
from aiida_e3relax.gnn.training.validation_split import validation_split

WAIT_S = 0.5
"""Between looks at the processes."""

INTERRUPTED = (RunInterruptedError.exit_status, -signal.SIGTERM, -signal.SIGINT)
"""Exit statuses of a process that was ended from outside."""


@dataclasses.dataclass(frozen=True)
class Resources:
    """Processes side by side, CPU threads of each, and the device of all."""

    jobs: int
    threads: int
    device: str


def prepare(experiment: Experiment) -> None:
    """Look at data and at what earlier runs left, and write the file of each run, which `e3relax train` takes, too.

    Raises
    ------
    InputError
        For data that cannot be read or lack a split, and folders that hold runs of other settings or data.
    """
    hashes = {}
    for file in dict.fromkeys(run.file for run in experiment.runs):
        pairs = read_pairs(file)
        hashes[file] = pairs_hash(pairs)
        found = set(pairs.split.tolist())
        for split in ('train', *experiment.measurement.splits):
            if split not in found:
                raise InputError(f'{file}: no pair of the split {split!r}; it has {", ".join(sorted(found))}')
        for run in experiment.runs:
            if run.file == file and run.settings is not None:
                try:
                    validation_split(found, run.settings.validation)
                except TrainingError as error:
                    raise InputError(f'{file}: {error}') from error
    for run in experiment.runs:
        if run.settings is None:
            continue
        _check_what_is_there(run, hashes[run.file])
        run.folder.mkdir(parents=True, exist_ok=True)
        content = {'data': [str(run.file)], 'output': str(run.folder), **dataclasses.asdict(run.settings)}
        text = json.dumps(content, indent=2) + '\n'
        if not (config := run.folder / CONFIG).is_file() or config.read_text(encoding='utf-8') != text:
            config.write_text(text, encoding='utf-8')


def _check_what_is_there(run: Run, data_hash: str) -> None:
    """Raise InputError where the folder of a run holds one of other settings or data."""
    result = read_result(run.folder)
    if result and result.data_hash not in ('', data_hash):
        raise InputError(f'{run.folder} holds a run on other data than {run.file}: name another output')
    there = run.folder / 'settings.json'
    if result and not result.error and not there.is_file():  # trained by a job of AiiDA
        there = run.folder / CONFIG
    if run.settings and there.is_file():
        try:
            check_same_settings(run.settings, there)
        except TrainingError as error:
            raise InputError(str(error)) from error


def execute(experiment: Experiment, resources: Resources, report: Callable[[], object]) -> list[Run]:
    """Run what is not done, call `report` whenever a run has ended, and return the runs that other processes hold.

    Runs that failed are tried again. A run that another process holds, on this machine or on one that shares the
    folder, is left to it.

    Raises
    ------
    RunInterruptedError
        For Ctrl+C and SIGTERM, after which the same command goes on; for those that ended some of the runs alone when
        the others are done.
    """
    runs = {run.folder: run for run in experiment.runs if run.settings is not None}
    waiting = deque(run for run in runs.values() if not _is_done(run, experiment.measurement))
    done = len(runs) - len(waiting)
    line = ProgressLine(experiment.kind, len(runs), done)
    running: list[_Process] = []
    elsewhere: list[Run] = []
    interrupted: list[Run] = []
    try:
        with sigterm_as_interrupt():
            while waiting or running:
                while waiting and len(running) < resources.jobs:
                    run = waiting.popleft()
                    with file_lock(run.folder / LOCK) as lock:
                        if lock is None:
                            elsewhere.append(run)
                            line.say(f'{run.title}: another process has it')
                        elif _is_done(run, experiment.measurement):  # by another process, meanwhile
                            line.advance()
                        else:
                            running.append(_start(run, experiment.measurement, resources, lock))
                            line.say(f'{run.title}: started')
                time.sleep(WAIT_S)
                for process in [p for p in running if p.child.poll() is not None]:
                    running.remove(process)
                    if process.is_interrupted:
                        interrupted.append(process.run)
                    line.say(f'{process.run.title}: {process.outcome()}')
                    line.advance()
                    report()
                line.advance(0, ' | '.join(process.note() for process in running))
    except KeyboardInterrupt as error:
        for process in running:
            process.child.terminate()
        for process in running:
            process.child.wait()
        raise RunInterruptedError(f'{error or "interrupted"}: the same command goes on where it was') from error
    finally:
        line.close()
    if interrupted:
        names = '; '.join(run.title for run in interrupted)
        raise RunInterruptedError(f'{names}: ended from outside: the same command goes on where it was')
    return elsewhere


def _is_done(run: Run, measurement: Measurement) -> bool:
    result = read_result(run.folder)
    return result is not None and result.covers(measurement)


@dataclasses.dataclass
class _Process:
    """A run and its process."""

    run: Run
    child: subprocess.Popen
    measurement: Measurement

    @property
    def is_interrupted(self) -> bool:
        """Whether the process has been ended from outside in a way that it can go on from."""
        return self.child.returncode in INTERRUPTED

    def outcome(self) -> str:
        """Return what became of the run, for people; a process that ended without a word leaves the reason."""
        if self.is_interrupted:
            return f'ended from outside: {_last_line(self.run.folder / LOG)}'
        result = read_result(self.run.folder)
        if result is None or not (result.error or result.covers(self.measurement)):
            status = self.child.returncode
            how = f'signal {-status}' if status < 0 else f'exit status {status}'
            last = _last_line(self.run.folder / LOG)
            write_error(self.run.folder, message := f'the process ended with {how}{": " if last else ""}{last}')
            return f'failed: {message}'
        if result.error:
            return f'failed: {result.error}'
        spent = '' if result.training_s is None else f', {result.steps} steps in {result.training_s:.0f} s'
        return f'done{spent}'

    def note(self) -> str:
        """Return where the run is, as its own progress line says."""
        return f'{self.run.variant}: {_last_line(self.run.folder / LOG)}'


def _start(run: Run, measurement: Measurement, resources: Resources, lock: int) -> _Process:
    """Start a run in a process that ends with this one and holds the descriptor `lock`."""
    clear_error(run.folder)
    command = [sys.executable, '-m', 'aiida_e3relax.gnn.experiments.worker', str(run.folder), '--parent']
    command += ['--device', resources.device, '--threads', str(resources.threads)]
    command += ['--jobs', str(resources.jobs)]
    command += ['--splits', *measurement.splits, *(['--match'] if measurement.match else [])]
    command += ['--inference-batches', *map(str, measurement.inference_batches)]
    environment = os.environ | {'OMP_NUM_THREADS': str(resources.threads)}
    with (run.folder / LOG).open('ab') as log:
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, pass_fds=(lock,), env=environment
        )
    return _Process(run, child, measurement)


def _last_line(path: Path) -> str:
    """Return the end of what a process wrote, on one line."""
    with contextlib.suppress(OSError), path.open('rb') as handle:
        handle.seek(max(path.stat().st_size - 500, 0))
        lines = handle.read().decode('utf-8', 'replace').split('\n')
        return short(printable(next((line for line in reversed(lines) if line.strip()), '')), 100)
    return ''
