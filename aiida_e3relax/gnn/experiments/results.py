"""What a run leaves in its folder: facts, and what was measured structure by structure."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.gnn.evaluation.evaluate import Measured
from aiida_e3relax.gnn.experiments.plan import Measurement

RESULT, MEASURED, CONFIG, LOG, LOCK = 'result.json', 'measured.npz', 'run.json', 'output.log', '.lock'
"""Files in the folder of a run: its facts, the measures, what `e3relax train` takes, and what it wrote to stderr."""

_ARRAYS = ('labels', 'n_atoms', 'numbers', 'atom_errors', 'failed', 'matched', 'uncertainty')


@dataclasses.dataclass(frozen=True)
class Result:
    """What is known of a run when it has ended.

    Attributes
    ----------
    error
        Why it failed; empty where it did not.
    measurement
        What was measured, as `together` keeps it; earlier releases had one answer to ``match`` for all splits.
    data_hash, content_hash
        Of the training file, and of the checkpoint; None of the Dummy.
    parameters, steps
        Numbers that the optimiser changes, and steps taken.
    training_s, training_cpu_s
        Time of the steps, validations included, by the clock and by the processor; None of the Dummy.
    inference_ms
        Time of a prediction, in ms a crystal, by the crystals in a batch: ``graph`` (neighbour search) and ``forward``,
        or None where the batch does not fit into the memory.
    machine
        Where it was measured last: ``device``, ``threads`` and ``torch``, and ``sessions``, see there.
    """

    error: str = ''
    measurement: dict[str, Any] = dataclasses.field(default_factory=dict)
    data_hash: str = ''
    content_hash: str | None = None
    parameters: int = 0
    steps: int = 0
    training_s: float | None = None
    training_cpu_s: float | None = None
    inference_ms: dict[str, dict[str, float] | None] = dataclasses.field(default_factory=dict)
    machine: dict[str, Any] = dataclasses.field(default_factory=dict)

    def covers(self, measurement: Measurement) -> bool:
        """Whether nothing is left to do for `measurement`: it was measured, alone or with more."""
        missing = self.missing(measurement)
        return not self.error and bool(self.measurement) and not missing.splits and not missing.inference_batches

    def missing(self, measurement: Measurement) -> Measurement:
        """Return what of `measurement` is left to measure; a split without asked matches is, as a whole."""
        there = self.measurement.get('splits', ())
        if measurement.match:
            there = _matched(self.measurement)
        batches = self.measurement.get('inference_batches', ())
        return Measurement(
            tuple(split for split in measurement.splits if split not in there),
            measurement.match,
            tuple(size for size in measurement.inference_batches if size not in batches),
        )

    @property
    def sessions(self) -> list[dict[str, Any]]:
        """A mapping for each time that something was measured; of a result of an earlier release its machine alone.

        Of the machine: ``device``, ``threads``, ``torch``, and ``jobs``, the runs side by side on it. ``date``. Of what
        was done: ``trained``, ``splits`` and ``inference_batches``. ``validation`` is the split that chose the
        checkpoint, ``has_kernels`` whether kernels of this package's own summed messages when it was timed.
        """
        return self.machine.get('sessions') or ([self.machine] if self.machine else [])

    def last_told(self, name: str) -> Any:
        """Return what the last of the sessions that tells of `name` says; None where none does."""
        return next((session[name] for session in reversed(self.sessions) if session.get(name) is not None), None)


def together(stored: Mapping[str, Any], measurement: Measurement) -> dict[str, Any]:
    """Return what has been measured when `measurement` was, after what is `stored`.

    ``match`` are the splits for which StructureMatcher was asked.
    """
    asked = measurement.splits if measurement.match else ()
    return {
        'splits': list(dict.fromkeys((*stored.get('splits', ()), *measurement.splits))),
        'match': list(dict.fromkeys((*_matched(stored), *asked))),
        'inference_batches': sorted({*stored.get('inference_batches', ()), *measurement.inference_batches}),
    }


def _matched(stored: Mapping[str, Any]) -> Sequence[str]:
    """Return the splits for which StructureMatcher was asked."""
    match = stored.get('match', ())
    if isinstance(match, bool):  # of all splits, in results of earlier releases
        return stored.get('splits', ()) if match else ()
    return match


def write_result(folder: Path, result: Result) -> None:
    """Write the facts of a run, which readers see whole or not at all."""
    unfinished = folder / f'.{RESULT}.part'
    unfinished.write_text(json.dumps(dataclasses.asdict(result), indent=2) + '\n', encoding='utf-8')
    unfinished.replace(folder / RESULT)


def write_error(folder: Path, message: str) -> None:
    """Write why a run failed, and leave what is known of it from before."""
    write_result(folder, dataclasses.replace(read_result(folder) or Result(), error=message))


def clear_error(folder: Path) -> None:
    """Take out why a run failed, before it is tried again; nothing is left of one of which nothing else is known."""
    result = read_result(folder)
    if result and result.error:
        if result.measurement:
            write_result(folder, dataclasses.replace(result, error=''))
        else:
            (folder / RESULT).unlink()


def read_result(folder: Path) -> Result | None:
    """Return the facts of the run in `folder`; None where it has not ended.

    Raises InputError for a file that this release cannot read.
    """
    path = folder / RESULT
    if not path.is_file():
        return None
    try:
        return Result(**json.loads(path.read_text(encoding='utf-8')))
    except (ValueError, TypeError) as error:
        raise InputError(f'{path}: does not hold the result of a run ({error}): remove it to measure again') from error


def write_measured(folder: Path, measured: Sequence[tuple[str, Measured]]) -> None:
    """Write what was measured on each split."""
    arrays: dict[str, Any] = {}
    heads = []
    for index, (split, m) in enumerate(measured):
        heads.append([split, m.data, m.frame, m.of, sorted(m.values)])
        arrays |= {f'{index}.values.{name}': values for name, values in m.values.items()}
        arrays |= {f'{index}.{name}': array for name in _ARRAYS if (array := getattr(m, name)) is not None}
    unfinished = folder / f'.{MEASURED}.part'
    with unfinished.open('wb') as handle:
        np.savez_compressed(handle, allow_pickle=False, heads=np.array(json.dumps(heads)), **arrays)
    unfinished.replace(folder / MEASURED)


def read_measured(folder: Path) -> list[tuple[str, Measured]]:
    """Return what `write_measured` wrote into the folder of a run."""
    with np.load(folder / MEASURED, allow_pickle=False) as content:
        measured = []
        for index, (split, data, frame, of, names) in enumerate(json.loads(str(content['heads']))):
            values = {name: content[f'{index}.values.{name}'] for name in names}
            arrays: dict[str, Any] = {
                name: content[key] if (key := f'{index}.{name}') in content.files else None for name in _ARRAYS
            }
            measured.append((split, Measured(data=data, frame=frame, of=of, values=values, **arrays)))
    return measured
