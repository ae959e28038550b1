"""The report of a run of ``e3relax predict``: facts of the run, and one row a structure, written as they come."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np

from aiida_e3relax.common.errors import OutputError
from aiida_e3relax.common.messages import name_some, printable
from aiida_e3relax.common.output_files import SUFFIX, writing
from aiida_e3relax.common.strict_json import finite
from aiida_e3relax.crystals.structures import Crystals

if TYPE_CHECKING:
    from aiida_e3relax.gnn.prediction.predict import Predictions

SCHEMA = 1


class ReportWriter:
    """A JSON file that appears whole, under its name, when the run ends, well or not.

    Attributes
    ----------
    content
        Facts of the run, to be filled in.
    """

    def __init__(self, path: Path | None):
        self.path = path
        self.content: dict[str, Any] = {'schema': SCHEMA, 'program': 'e3relax', 'error': None}
        self._open = ExitStack()
        self._lists: dict[str, IO[str]] = {}

    def __enter__(self) -> Self:
        for name in ('batches', 'structures'):
            self._lists[name] = self._open.enter_context(tempfile.TemporaryFile('w+', encoding='utf-8'))
        return self

    def add(self, name: str, entries: list[Any]) -> None:
        """Add `entries` to the list ``batches`` or ``structures``; numbers that are not finite become null."""
        handle = self._lists[name]
        for entry in entries:
            handle.write(f'{"," if handle.tell() else ""}\n {json.dumps(finite(entry), allow_nan=False)}')

    def __exit__(self, kind: object, error: BaseException | None, *_: object) -> None:
        """Write the report, and raise OutputError where it cannot be; beside another error only a warning."""
        try:
            if self.path is not None:
                with writing(self.path):
                    self._write(self.path)
        except OutputError as failure:
            if error is None:
                raise
            print(f'e3relax: error: {failure}', file=sys.stderr)
        finally:
            self._open.close()

    def _write(self, path: Path) -> None:
        partial = path.with_name(path.name + SUFFIX)
        try:
            with partial.open('w', encoding='utf-8') as whole:
                whole.write(json.dumps(finite(self.content), indent=1, allow_nan=False).removesuffix('\n}'))
                for name, handle in self._lists.items():
                    whole.write(f',\n "{name}": [')
                    handle.seek(0)
                    shutil.copyfileobj(handle, whole)
                    whole.write('\n ]')
                whole.write('\n}\n')
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def structure_rows(
    crystals: Crystals, result: Predictions, told: Mapping[int, dict[str, Any]] | None = None, key: str = 'potential'
) -> list[dict[str, Any]]:
    """Return one row a structure: label, status, message, and how far the prediction is from the input.

    `told` is what a potential says of structures, by index, which stands under `key`.
    """
    rows = []
    for index in range(len(crystals)):
        status, message = result.faults.get(index, ('ok', ''))
        row: dict[str, Any] = {'label': str(crystals.labels[index]), 'status': status, 'message': message}
        row['n_atoms'] = int(crystals.n_atoms[index])
        if status == 'ok' and not crystals.pbc[index].all():
            row['message'] = 'predicted as if periodic in all three directions'
        rows.append(row)
    predicted = [index for index in range(len(crystals)) if index not in result.faults]
    changes = _changes(crystals.select(predicted), result.crystals.select(predicted))
    for place, index in enumerate(predicted):
        rows[index] |= {name: float(values[place]) for name, values in changes.items()}
        if result.uncertainty is not None and np.isfinite(result.uncertainty[index]):
            rows[index]['uncertainty_A'] = float(result.uncertainty[index])
        rows[index] |= _nearness(result, index)
    for index, of_one in (told or {}).items():
        rows[index][key] = of_one
    return rows


def _nearness(result: Predictions, index: int) -> dict[str, Any]:
    """Return how far a crystal is from those that the network was trained on, if the model can tell."""
    if result.reference is None or result.distance is None or result.example is None or result.distant_site is None:
        return {}
    distance, example = float(result.distance[index]), int(result.example[index])
    return {
        'distance_to_training': distance,
        'unlike_training': distance > 1,
        'nearest_training': {
            'label': result.reference.labels[example],
            'formula': result.reference.formulas[example],
            'site': int(result.distant_site[index]),
        },
    }


def note_on_training(row: Mapping[str, Any]) -> str:
    """Return that a structure is unlike the training data, by its row, with the nearest example; else nothing."""
    if not row.get('unlike_training'):
        return ''
    nearest = row['nearest_training']
    return (
        f'unlike the training data (distance {row["distance_to_training"]:.2f}, most by site {nearest["site"]}, '
        f'nearest example {nearest["formula"]}, {nearest["label"]})'
    )


def note_on_steps(row: Mapping[str, Any]) -> str:
    """Return what a person should know of the steps of a potential, by the row of a structure; empty for nothing."""
    potential = row.get('potential') or {}
    if 'error' in potential:
        return f'the potential failed, the prediction of the network stands: {potential["error"]}'
    notes = _notes_on_candidates(potential)
    if 'input_error' in potential:
        notes.append(f'the potential cannot compute the input: {potential["input_error"]}')
    if potential.get('steps') and _start_stands(potential):
        start = 'the prediction of the network' if 'energy_network_eV_per_atom' in potential else 'the input'
        notes.append(f'the potential found no lower energy in {potential["steps"]} steps: {start} stands')
    if potential.get('basin'):
        notes.append(f'another basin than where it started: {"; ".join(potential["basin"])}')
    return '; '.join(notes)


def _start_stands(potential: Mapping[str, Any]) -> bool:
    """Return whether a crystal stays where the steps of a potential began, as its energy has not fallen."""
    energies = [potential.get(f'energy_{name}_eV_per_atom') for name in ('network', 'input', 'prediction')]
    before = energies[1] if energies[0] is None else energies[0]
    return not potential.get('improved', True) and energies[2] == before


def _notes_on_candidates(potential: Mapping[str, Any]) -> list[str]:
    """Return whether a candidate has taken the place of the unperturbed crystal, and which ones failed."""
    notes, candidates = [], potential.get('candidates') or []
    if candidates and not candidates[0]['unperturbed']:
        above = next(one['energy_eV_per_atom'] for one in candidates if one['unperturbed'])
        below = above - candidates[0]['energy_eV_per_atom']
        notes.append(f'a candidate of another symmetry, {below:.4f} eV/atom below the unperturbed crystal')
    if failed := potential.get('candidates_failed'):
        notes.append(f'{failed} candidates failed: {potential["candidates_error"]}')
    return notes


@dataclasses.dataclass(eq=False)
class Tally:
    """What came of the structures of a run, counted as they come.

    Attributes
    ----------
    statuses
        How many structures have each status.
    unlike
        How many of those that were predicted are unlike the training data.
    uncertainties
        Expected errors of bond lengths in A, of those that were predicted by a model that states them.
    steps
        How many structures a potential did not relax as it should have, in words.
    """

    statuses: Counter[str] = dataclasses.field(default_factory=Counter)
    unlike: int = 0
    uncertainties: list[float] = dataclasses.field(default_factory=list)
    steps: Counter[str] = dataclasses.field(default_factory=Counter)

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Count the structures of some more rows."""
        self.statuses.update(row['status'] for row in rows)
        self.unlike += sum(row.get('unlike_training', False) for row in rows)
        self.uncertainties += [row['uncertainty_A'] for row in rows if 'uncertainty_A' in row]
        for potential in (row['potential'] for row in rows if 'potential' in row):
            failed = 'error' in potential
            self.steps['failed'] += failed
            self.steps['computed alone, as their batches failed'] += 'computed_alone' in potential
            self.steps['not converged'] += not failed and not potential.get('converged', True)
            self.steps['in another basin'] += not failed and potential.get('left_basin', False)

    def describe_steps(self) -> str:
        """Return in words what a potential did not relax as it should have; nothing where it did."""
        words = ', '.join(f'{count} {word}' for word, count in sorted((+self.steps).items()))
        return f'the potential: {words}' if words else ''

    def describe(self, has_network: bool, unreadable: int) -> str:
        """Return in a line what came of the run, with the rows that are `unreadable`."""
        done, total = self.statuses['ok'], self.statuses.total() + unreadable
        verb, things = 'predicted' if has_network else 'relaxed', 'structure' if total == 1 else 'structures'
        told = [f'{verb} {done} of {total} {things}']
        if self.uncertainties:
            middle = f'{np.median(self.uncertainties):.2g} A'
            told.append(f'expected error of bond lengths {middle}' + (' in the median' if done > 1 else ''))
        if self.unlike:
            told.append(f'{self.unlike} unlike the training data')
        return ', '.join(told)


def _changes(before: Crystals, after: Crystals) -> dict[str, np.ndarray]:
    """Return ``(S,)`` volumes, displacements at fixed cell, and the largest principal strain, between crystals."""
    if not len(before):
        return {}
    moved = np.einsum('ac,acx->ax', after.fractional() - before.fractional(), after.cell[after.structure_index])
    displacement = np.linalg.norm(moved, axis=1)
    stretches = np.linalg.svd(np.linalg.inv(before.cell) @ after.cell, compute_uv=False)
    return {
        'volume_initial_A3': np.abs(before.volumes),
        'volume_predicted_A3': np.abs(after.volumes),
        'max_displacement_A': np.maximum.reduceat(displacement, before.offsets[:-1]),
        'mean_displacement_A': after.mean_over_atoms(displacement[:, None])[:, 0],
        'max_principal_strain': np.abs(stretches - 1).max(axis=1),
    }


def describe_nothing_read(inputs: Sequence[Path], faults: Sequence[str]) -> str:
    """Return the message for inputs without a crystal."""
    if not faults:
        return f'{", ".join(map(printable, inputs))}: no structure there; expected at least one'
    return name_some(faults, 20, separator=';')
