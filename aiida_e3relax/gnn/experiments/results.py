"""What a run leaves in its folder: facts, and what was measured structure by structure."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.gnn.evaluation.evaluate import Measured
from aiida_e3relax.gnn.experiments.plan import Measurement

RESULT, MEASURED, CONFIG, LOG = 'result.json', 'measured.npz', 'run.json', 'output.log'
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
        What was measured.
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
        Device, threads and versions.
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
        """Whether nothing is left to do for `measurement`."""
        return not self.error and self.measurement == as_stored(measurement)


def as_stored(measurement: Measurement) -> dict[str, Any]:
    """Return a measurement as JSON gives it back."""
    return json.loads(json.dumps(dataclasses.asdict(measurement)))


def write_result(folder: Path, result: Result) -> None:
    """Write the facts of a run, which readers see whole or not at all."""
    unfinished = folder / f'.{RESULT}.part'
    unfinished.write_text(json.dumps(dataclasses.asdict(result), indent=2) + '\n', encoding='utf-8')
    unfinished.replace(folder / RESULT)


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
