"""Reading and checking the files that `e3relax predict` writes."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.common.messages import short
from aiida_e3relax.common.out_of_memory import WORDS
from aiida_e3relax.crystals.files.details import read_bonds, read_layers
from aiida_e3relax.crystals.files.stream import read_crystal_files
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.parsers.report_schema import Error, Row, parse_report

OK = 'ok'
KILLED = re.compile(r'\bKilled\b|(?i:oom.?kill)')
"""What a shell and a scheduler say when the kernel takes the memory back."""

FURTHEST = 1e6
"""Positions further than this (A) from the origin, and longer lattice vectors, are no crystal's."""

BYTES_OF_RUN, BYTES_OF_STRUCTURE = 2**21, 2**12
"""What a report may hold of the run, and of each structure: several times what the program writes."""


class PredictionFilesError(ValueError):
    """A file that is not what `e3relax predict` writes; the message names the file and what was expected."""


@dataclasses.dataclass(frozen=True)
class RunReport:
    """The report of a run.

    Attributes
    ----------
    content
        All of `report.json`, as plain values with printable texts.
    error
        Why nothing was predicted, or None.
    structures
        How each structure fared, in the order of the input; may be empty when there is an error.
    """

    content: dict[str, Any]
    error: Error | None
    structures: list[Row]


def read_report(path: Path, count: int = 10_000) -> RunReport:
    """Return the report of a run of `count` structures at most.

    Raises PredictionFilesError when the file is not a report of the known schema, whatever is in it.
    """
    try:
        most = BYTES_OF_RUN + count * BYTES_OF_STRUCTURE
        with path.open('rb') as handle:
            text = handle.read(most + 1)
        if len(text) > most:
            raise ValueError(f'expected at most {most:,} bytes for {count:,} structure(s), found more')
        report, content = parse_report(text.decode('utf-8'))
    except (ValueError, OSError) as error:
        raise PredictionFilesError(f'{path.name}: {short(error, 500)}') from error
    return RunReport(content, report.error, report.structures)


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
        geometry with status `ok` is no crystal's: not finite, out of all bounds, or without volume.
    """
    try:
        crystals = read_crystal_files([path])
    except (InputError, ValueError) as error:
        raise PredictionFilesError(str(error)) from error
    for name, found, expected in (
        ('labels of report.json', [row.label for row in report.structures], given.labels.tolist()),
        ('`n_atoms` of report.json', [row.n_atoms for row in report.structures], given.n_atoms.tolist()),
        (f'labels of {path.name}', crystals.labels.tolist(), given.labels.tolist()),
        (f'numbers of sites of {path.name}', crystals.n_atoms.tolist(), given.n_atoms.tolist()),
        (f'elements of {path.name}', crystals.numbers.tolist(), given.numbers.tolist()),
    ):
        if found != expected:
            raise PredictionFilesError(
                f'{name}: expected those of the input, {short(expected, 80)}, found {short(found, 80)}'
            )
    ok = [index for index, row in enumerate(report.structures) if row.status == OK]
    predictions = crystals.select(ok)
    sites = ~(np.abs(predictions.positions) <= FURTHEST).all(axis=1)
    cells = ~(np.abs(predictions.cell) <= FURTHEST).all(axis=(1, 2))
    if broken := sorted({*predictions.structure_index[sites].tolist(), *np.flatnonzero(cells).tolist()}):
        raise PredictionFilesError(
            f'{path.name}: structure `{predictions.labels[broken[0]]}` is `ok`, but not finite or further than '
            f'{FURTHEST:g} A from the origin'
        )
    if len(flat := np.flatnonzero(~(np.abs(predictions.volumes) > 0))):
        raise PredictionFilesError(f'{path.name}: structure `{predictions.labels[flat[0]]}` is `ok`, but has no volume')
    return predictions


def read_trajectories(
    path: Path, predictions: Crystals, given: Crystals
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return positions ``(T, N, 3)`` and cells ``(T, 3, 3)``, in A, by label: from the input to the prediction.

    Parameters
    ----------
    path
        The `.npz` file with the structures after every layer.
    predictions
        The predicted crystals, as `read_predictions` returns them. Some may have no layers.
    given
        The crystals that the run was given.

    Raises
    ------
    PredictionFilesError
        When the file is missing or unreadable, when it is of other crystals, does not begin with those given or end
        with those predicted, or holds a geometry that is no crystal's.
    """
    try:
        read = read_layers(path, predictions)
    except (ValueError, OSError) as error:
        raise PredictionFilesError(f'{path.name}: {short(error, 500)}') from error
    for places in ((_places(predictions), -1, predictions, 'ends'), (_places(given), 0, given, 'begins')):
        of_label, step, crystals, verb = places
        for label, (positions, cell) in read.items():
            one = crystals.select([of_label[label]])
            if not (np.array_equal(positions[step], one.positions) and np.array_equal(cell[step], one.cell[0])):
                expected = 'its prediction' if step else 'its input'
                raise PredictionFilesError(f'{path.name}: structure `{label}` {verb} otherwise than with {expected}')
    for label, (positions, cell) in read.items():
        if not ((np.abs(positions) <= FURTHEST).all() and (np.abs(cell) <= FURTHEST).all()):
            raise PredictionFilesError(f'{path.name}: structure `{label}` is not finite or further than {FURTHEST:g} A')
    return read


def read_all_bonds(path: Path, predictions: Crystals) -> dict[str, dict[str, NDArray[Any]]]:
    """Return the arrays of every structure's bonds, by label; see `read_bonds`.

    Raises PredictionFilesError when the file is missing or unreadable, or not about all of `predictions`.
    """
    try:
        read = read_bonds(path, predictions)
    except (ValueError, OSError) as error:
        raise PredictionFilesError(f'{path.name}: {short(error, 500)}') from error
    if missing := [label for label in predictions.labels.tolist() if label not in read]:
        raise PredictionFilesError(f'{path.name}: structure `{missing[0]}` is missing')
    return read


def _places(crystals: Crystals) -> dict[str, int]:
    return {label: place for place, label in enumerate(crystals.labels.tolist())}


def find_out_of_memory(text: str) -> str | None:
    """Return the line that says that memory ran out, on a GPU or for the operating system, or None."""
    return next((line.strip() for line in text.splitlines() if WORDS.search(line) or KILLED.search(line)), None)


def find_last_words(text: str) -> str | None:
    """Return the last line that is not empty, or None."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), None)
