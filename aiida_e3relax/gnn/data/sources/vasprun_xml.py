"""A reader of ``vasprun.xml``: settings, first and last crystal, and the ionic steps with their forces and stress."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from xml.parsers import expat

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.common.messages import short
from aiida_e3relax.crystals.files.content import open_text_file
from aiida_e3relax.crystals.files.elements import read_atomic_number
from aiida_e3relax.crystals.files.errors import CrystalFileError, explain
from aiida_e3relax.gnn.data.sources.base import Sites, UnusableError

_SYMBOLS = {'X': 'Xe', 'r': 'Zr'}
"""Elements that VASP writes in another way."""

_LEAVES = frozenset(['i', 'v', 'c'])
_SKIPPED = frozenset(
    ['scstep', 'kpoints', 'dos', 'eigenvalues', 'projected', 'dielectricfunction', 'dynmat', 'parallel']
)
"""Elements that are passed over with all that is in them: most of a large file."""

_LONGEST, _DEEPEST = 100_000, 50
"""Characters of a value, and elements within elements, beyond what VASP writes."""


class CellAndCoordinates(NamedTuple):
    """A crystal without its species: ``cell`` (3, 3), rows in A, and ``fractional`` coordinates (N, 3)."""

    cell: NDArray[np.float64]
    fractional: NDArray[np.float64]


@dataclasses.dataclass
class RecordedStep:
    """An ionic step; what the file lacks is None.

    Attributes
    ----------
    geometry
        Its crystal.
    forces, stress
        ``(N, 3)`` in eV/A, and ``(3, 3)`` in kB, positive where the crystal wants to grow.
    energies
        In eV, by the names of the file.
    electronic_steps
        Number of them.
    """

    geometry: CellAndCoordinates | None = None
    forces: NDArray[np.float64] | None = None
    stress: NDArray[np.float64] | None = None
    energies: dict[str, float] = dataclasses.field(default_factory=dict)
    electronic_steps: int = 0


@dataclasses.dataclass
class VasprunContent:
    """The content of a file, up to where it ends.

    Attributes
    ----------
    settings
        INCAR and what VASP made of it, as text.
    numbers
        ``(N,)`` atomic numbers.
    initial, final
        ``initialpos`` and ``finalpos``.
    movable
        ``(N, 3)`` which coordinates selective dynamics leaves free; None without it.
    steps
        The ionic steps that were written to their end.
    fault
        Why the file ends early; empty where it does not.
    """

    settings: dict[str, str] = dataclasses.field(default_factory=dict)
    numbers: list[int] = dataclasses.field(default_factory=list)
    initial: CellAndCoordinates | None = None
    final: CellAndCoordinates | None = None
    movable: NDArray[np.bool_] | None = None
    steps: list[RecordedStep] = dataclasses.field(default_factory=list)
    fault: str = ''

    def number(self, name: str, default: float) -> float:
        """Return a setting as a number; raises UnusableError where it is none."""
        return _number(self.settings.get(name, str(default)), name)

    def logical(self, name: str) -> bool:
        """Return a setting that is true or false; false where it is missing."""
        return self.settings.get(name, '').strip().strip('.').upper().startswith('T')

    def sites(self, geometry: CellAndCoordinates) -> Sites:
        """Return one of the file's geometries as a crystal; raises UnusableError where it lacks atoms."""
        if geometry.fractional.shape != (len(self.numbers), 3) or geometry.cell.shape != (3, 3):
            raise UnusableError(f'damaged: {len(geometry.fractional)} positions for {len(self.numbers)} atoms')
        return Sites(
            np.array(self.numbers, dtype=np.int64),
            geometry.fractional @ geometry.cell,
            geometry.cell,
            np.ones(3, dtype=bool),
        )


def read_vasprun(path: Path) -> VasprunContent:
    """Return the content of the file at `path`, compressed or not.

    Raises UnusableError for a file that VASP does not write. One that ends early is returned with a `fault`.
    """
    reader = _Reader()
    try:
        with open_text_file(path) as handle:
            reader.parser.ParseFile(handle.buffer)  # type: ignore[attr-defined]
    except expat.ExpatError as error:
        at_end = error.code in _CUT
        reader.run.fault = 'cut short' if at_end else f'damaged at line {error.lineno}'
        reader.run.fault += f': {path.name}: {expat.ErrorString(error.code)}'
    except EOFError:
        reader.run.fault = f'cut short: {path.name}: its compression ends early'
    except UnusableError as error:
        raise UnusableError(f'damaged: {path.name}: {error}') from error
    except CrystalFileError as error:
        raise UnusableError(f'not read: {path.name}: {error}') from error
    except Exception as error:  # decompressors raise anything
        raise UnusableError(f'damaged: {path.name}: {explain(error)}') from error
    return reader.run


_CUT = frozenset(
    expat.errors.codes[message]
    for message in (
        expat.errors.XML_ERROR_NO_ELEMENTS,
        expat.errors.XML_ERROR_UNCLOSED_TOKEN,
        expat.errors.XML_ERROR_PARTIAL_CHAR,
        expat.errors.XML_ERROR_UNCLOSED_CDATA_SECTION,
    )
)


class _Reader:
    """The handlers of an XML parser that fill `run`."""

    def __init__(self) -> None:
        self.run = VasprunContent()
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self._refuse_doctype
        self._path: list[str] = []
        self._skipped = ''
        self._text: list[str] = []
        self._arrays: dict[str, list[str]] = {}
        self._rows: list[str] = []
        self._columns: list[str] = []
        self._step = RecordedStep()
        self._set_handlers(self._start, self._end)

    def _set_handlers(self, start: Callable[..., None] | None, end: Callable[..., None]) -> None:
        self.parser.StartElementHandler, self.parser.EndElementHandler = start, end

    def _refuse_doctype(self, *_: Any) -> None:
        raise UnusableError('declares a document type, which VASP never does')

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if len(self._path) >= _DEEPEST:
            raise UnusableError(f'more than {_DEEPEST} elements in each other')
        if tag in _SKIPPED:
            if tag == 'scstep':
                self._step.electronic_steps += 1
            self._skipped = tag
            self._set_handlers(None, self._end_skipped)
            return
        self._path.append(attributes.get('name', tag))
        if tag in _LEAVES:
            self._text = []
            self.parser.CharacterDataHandler = self._text.append
        elif tag == 'varray':
            self._rows = []
        elif tag == 'rc':
            self._columns = []
        elif tag == 'calculation':
            self._step = RecordedStep()
        elif tag == 'structure':
            self._arrays = {}

    def _end_skipped(self, tag: str) -> None:
        if tag == self._skipped:  # none of them holds another of its name
            self._set_handlers(self._start, self._end)

    def _end(self, tag: str) -> None:
        name, path = self._path.pop(), self._path
        if tag in _LEAVES:
            self.parser.CharacterDataHandler = None
            text = ''.join(self._text)
            if len(text) > _LONGEST:
                raise UnusableError(f'a value of {len(text)} characters')
            self._take_value(tag, name, text)
        elif tag == 'varray':
            self._take_array(name)
        elif tag == 'rc' and path[1:3] == ['atominfo', 'atoms'] and self._columns:
            symbol = self._columns[0].strip()
            self.run.numbers.append(read_atomic_number(_SYMBOLS.get(symbol, symbol), 'atominfo'))
        elif tag == 'structure':
            self._take_structure(name)
        elif tag == 'calculation':
            self.run.steps.append(self._step)

    def _take_value(self, tag: str, name: str, text: str) -> None:
        path = self._path
        if path[1:2] in (['incar'], ['parameters']):
            self.run.settings[name] = text
        elif tag == 'v':
            self._rows.append(text)
        elif tag == 'c':
            self._columns.append(text)
        elif path[1:] == ['calculation', 'energy']:
            self._step.energies[name] = _number(text, name)

    def _take_array(self, name: str) -> None:
        self._arrays[name] = self._rows
        if self._path[1:] == ['calculation'] and name in {'forces', 'stress'}:
            setattr(self._step, name, _numbers(self._rows, name))

    def _take_structure(self, name: str) -> None:
        place = self._path[1:]
        wanted = place == ['calculation'] or name in {'initialpos', 'finalpos'}
        if not wanted or 'basis' not in self._arrays or 'positions' not in self._arrays:
            return
        geometry = CellAndCoordinates(*(_numbers(self._arrays[key], key) for key in ('basis', 'positions')))
        if place == ['calculation']:
            self._step.geometry = geometry
        elif name == 'finalpos':
            self.run.final = geometry
        else:
            self.run.initial = geometry
            if 'selective' in self._arrays:
                self.run.movable = np.array([[f[:1] == 'T' for f in r.split()] for r in self._arrays['selective']])


def _number(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UnusableError(f'damaged: {name}: expected a number, found {short(text.strip())!r}') from None


def _numbers(rows: list[str], name: str) -> NDArray[np.float64]:
    """Return rows of three numbers ``(N, 3)``; VASP writes stars for those that are too large."""
    try:
        values = np.array([row.split() for row in rows], dtype=np.float64).reshape(-1, 3)
    except ValueError:
        raise UnusableError(f'{name}: expected rows of three numbers, found {short(rows[-1].strip())!r}') from None
    if not np.isfinite(values).all():
        raise UnusableError(f'{name}: expected numbers, found NaN or infinity')
    return values
