"""The files that `e3relax predict` leaves behind: read, checked, and nothing more."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from aiida_e3relax.gnn.errors import InputError
from aiida_e3relax.gnn.structure_files import read_structures
from aiida_e3relax.gnn.structures import Crystals

SCHEMA = 1
OK = 'ok'
OUT_OF_MEMORY = re.compile(
    r'out of memory|OutOfMemoryError|can.t allocate memory|MemoryError|bad_alloc|\bKilled\b|oom.?kill', re.IGNORECASE
)


class PredictionFilesError(ValueError):
    """A file that is not what `e3relax predict` writes; the message names the file and what was expected."""


@dataclasses.dataclass(frozen=True)
class RunError:
    """Why a run predicted nothing: a code word such as `no_device`, and a message."""

    code: str
    message: str


@dataclasses.dataclass(frozen=True)
class StructureStatus:
    """How one structure fared: `ok`, or a failure word and a message."""

    label: str
    status: str
    message: str


@dataclasses.dataclass(frozen=True)
class RunReport:
    """The report of a run.

    Attributes
    ----------
    content
        All of `report.json`.
    error
        Why nothing was predicted, or None.
    structures
        The status of each structure, in the order of the input; may be empty when there is an error.
    """

    content: dict[str, Any]
    error: RunError | None
    structures: tuple[StructureStatus, ...]


def read_report(path: Path) -> RunReport:
    """Return the report of a run.

    Raises PredictionFilesError when the file is not a report of the known schema.
    """
    try:
        content = json.loads(path.read_text(encoding='utf-8'), parse_constant=_refuse_constant)
    except ValueError as error:
        raise PredictionFilesError(f'{path.name}: expected JSON, found {error}') from error
    found = content.get('schema') if isinstance(content, dict) else None
    if found != SCHEMA:
        raise PredictionFilesError(f'{path.name}: expected `schema` {SCHEMA}, found {found!r}')
    try:
        run_error = content['error']
        structures = content['structures'] if run_error is None else content.get('structures', [])
        return RunReport(
            content=content,
            error=None if run_error is None else RunError(run_error['code'], run_error['message']),
            structures=tuple(StructureStatus(s['label'], s['status'], s['message']) for s in structures),
        )
    except (KeyError, TypeError) as error:
        raise PredictionFilesError(f'{path.name}: an entry is missing or of the wrong type: {error!r}') from error


def read_predictions(path: Path, report: RunReport, given: Crystals) -> Crystals:
    """Return the crystals with status `ok`, in their order.

    Parameters
    ----------
    path
        The `.npz` file with the predicted crystals.
    report
        The report of the same run.
    given
        The crystals that the run was given.

    Raises
    ------
    PredictionFilesError
        When the file is missing or unreadable, when labels, sites or elements differ from those given, or when a
        geometry with status `ok` is not finite.
    """
    try:
        crystals = read_structures([path])
    except InputError as error:
        raise PredictionFilesError(str(error)) from error
    reported = [structure.label for structure in report.structures]
    for name, found, expected in (
        ('labels of report.json', reported, given.labels.tolist()),
        (f'labels of {path.name}', crystals.labels.tolist(), given.labels.tolist()),
        (f'numbers of sites of {path.name}', crystals.n_atoms.tolist(), given.n_atoms.tolist()),
        (f'elements of {path.name}', crystals.numbers.tolist(), given.numbers.tolist()),
    ):
        if found != expected:
            raise PredictionFilesError(
                f'{name}: expected those of the input, {_short(expected)}, found {_short(found)}'
            )
    ok = [index for index, structure in enumerate(report.structures) if structure.status == OK]
    predictions = crystals.select(ok)
    sites = ~np.isfinite(predictions.positions).all(axis=1)
    cells = ~np.isfinite(predictions.cell).all(axis=(1, 2))
    if broken := sorted({*predictions.structure_index[sites].tolist(), *np.flatnonzero(cells).tolist()}):
        label = predictions.labels[broken[0]]
        raise PredictionFilesError(f'{path.name}: structure `{label}` is `ok` but not finite')
    return predictions


def find_out_of_memory(text: str) -> str | None:
    """Return the line that tells of memory running out, on a GPU or by the kernel's hand, or None."""
    return next((line.strip() for line in text.splitlines() if OUT_OF_MEMORY.search(line)), None)


def find_last_words(text: str) -> str | None:
    """Return the last line that is not empty, or None."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), None)


def _refuse_constant(constant: str) -> None:
    raise ValueError(f'the constant {constant}, which is no JSON')


def _short(values: list) -> str:
    text = str(values)
    return text if len(text) <= 80 else f'{text[:77]}...'
