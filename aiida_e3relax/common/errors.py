"""Errors that end a run of ``e3relax``: each has a code for programs, an exit status, and a message for people."""

from __future__ import annotations

SOME_UNREADABLE = 8
"""Exit status of a prediction that went well for what could be read, where some files or crystals could not."""


class RunError(Exception):
    """An error that a person can mend; the message names the input, what was expected, and what to do."""

    code = 'unexpected'
    exit_status = 1


class InputError(RunError, ValueError):
    """A file or option that cannot be used."""

    code, exit_status = 'bad_input', 3


class CheckpointError(RunError, ValueError):
    """A checkpoint that is missing, damaged, or of another release."""

    code, exit_status = 'bad_checkpoint', 4


class WeightsError(InputError):
    """Weights of a potential that are missing, damaged, or of another package."""

    code, exit_status = CheckpointError.code, CheckpointError.exit_status


class DeviceError(RunError):
    """A device that was asked for and is not there."""

    code, exit_status = 'no_device', 5


class OutOfMemoryError(RunError):
    """The smallest batch does not fit into the memory of the device."""

    code, exit_status = 'out_of_memory', 6


class MissingPackageError(RunError):
    """A package that was asked for and is not installed."""

    code, exit_status = 'missing_package', 7


class OutputError(RunError):
    """A file that cannot be written."""

    code, exit_status = 'bad_output', 9


class RunInterruptedError(RunError):
    """Ctrl+C, or SIGTERM, by which schedulers end a run."""

    code, exit_status = 'interrupted', 130


class TrainingInterruptedError(RunInterruptedError):
    """SIGTERM in a training, which is saved.

    Attributes
    ----------
    step
        The step after which it ended.
    """

    def __init__(self, message: str, step: int):
        super().__init__(message)
        self.step = step


class TrainingError(RunError):
    """Training that cannot go on."""

    code = 'training_failed'
