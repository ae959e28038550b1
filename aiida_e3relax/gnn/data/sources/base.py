"""The interface of data sources: candidates are loaded one by one, so that one bad file costs one pair."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.common import fortran
from aiida_e3relax.crystals.files import CrystalFileError, read_crystals
from aiida_e3relax.crystals.files.content import OPENERS
from aiida_e3relax.crystals.files.occupancies import ADVICE
from aiida_e3relax.crystals.freedom.constraints import movable_coordinates
from aiida_e3relax.crystals.freedom.words import AXES, Moves
from aiida_e3relax.crystals.pairs import is_split

MOVES_BY_ISIF: dict[str, str] = {
    **dict.fromkeys('012', Moves.POSITIONS.value),
    **dict.fromkeys('36', Moves.CELL.value),
    **dict.fromkeys('45', Moves.SHAPE.value),
    '7': Moves.VOLUME.value,
    '8': 'positions and volume',
}
"""What VASP moves, by the tag ISIF."""


class Sites(NamedTuple):
    """One crystal, and what its file says that a relaxation does not move.

    Attributes
    ----------
    numbers, positions, cell, pbc
        ``(N,)`` atomic numbers, ``(N, 3)`` in A, ``(3, 3)`` lattice vectors as rows in A, ``(3,)`` periodic directions.
    fixed
        ``(N, 3)`` the fractional coordinates that do not move; None where the file says nothing of it.
    fixed_cell
        Whether the cell does not change; None where the file says nothing of it.
    moves
        What a relaxation moves, see `moves_by_isif`; empty where the file says nothing of it.
    """

    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    cell: NDArray[np.float64]
    pbc: NDArray[np.bool_]
    fixed: NDArray[np.bool_] | None = None
    fixed_cell: bool | None = None
    moves: str = ''


class UnusableError(ValueError):
    """A pair that cannot be used; the message up to its first colon is a reason that many pairs may share."""


class Loaded(NamedTuple):
    """A pair that was read: the unrelaxed and the relaxed crystal, and a note for people, if any."""

    before: Sites
    after: Sites
    note: str = ''


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A possible pair, not yet read: ``load`` returns it, or raises UnusableError.

    `split` is a name that `is_split` knows where the source says so, else empty; `about` are texts that tell of the
    pair, by name, as those of `Pairs`.
    """

    label: str
    split: str
    load: Callable[[], Loaded]
    about: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Source:
    """A source and its candidates, not yet read: its kind, path and name, and notes for people."""

    kind: str
    path: str
    name: str
    candidates: list[Candidate]
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class SourceOptions:
    """How sources are read.

    Attributes
    ----------
    allow_pickle
        Whether pickles may be loaded, which runs whatever code their author put in.
    match
        Key by which the rows of two files are matched; None finds one.
    """

    allow_pickle: bool = False
    match: str | None = None


def plain_name(name: str) -> str:
    """Return the name of a file before it was compressed."""
    suffix = Path(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in OPENERS else name


def split_of_folder(folder: Path) -> str:
    """Return the split that a folder within a source is named after, itself or one above it, or an empty name."""
    return next((part for part in folder.parts if is_split(part)), '')


def same(one: Sites, other: Sites, tolerance: float) -> bool:
    """Return whether two crystals have the same sites within `tolerance`, in A, whatever their images."""
    if not np.array_equal(one.numbers, other.numbers) or np.abs(one.cell - other.cell).max() > tolerance:
        return False
    difference = (one.positions - other.positions) @ np.linalg.inv(one.cell)
    moved = (difference - np.round(difference)) @ one.cell
    return bool(np.linalg.norm(moved, axis=1).max(initial=0.0) <= tolerance)


def only_crystal(path: Path) -> Any:
    """Return the one crystal of a file as an ASE structure; raises UnusableError."""
    try:
        crystals = read_crystals(path)
    except CrystalFileError as error:
        raise UnusableError(f'not read: {error}') from error
    if len(crystals) > 1:
        raise UnusableError(f'not read: {path.name} holds {len(crystals)} crystals, expected one')
    return crystals[0]


def sites_of(atoms: Any) -> Sites:
    """Return an ASE structure as plain arrays; raises UnusableError for constraints other than on fixed sites."""
    try:
        movable = movable_coordinates(atoms)
    except ValueError as error:
        raise UnusableError(f'constraints: {error}') from error
    return Sites(
        np.asarray(atoms.numbers, dtype=np.int64),
        np.asarray(atoms.positions, dtype=np.float64),
        np.asarray(atoms.cell.array, dtype=np.float64),
        np.asarray(atoms.pbc, dtype=bool),
        None if movable is None else ~movable,
    )


def with_isif(crystal: Sites, isif: str, constraints: Any = None) -> Sites:
    """Return a crystal with what VASP does not move in a relaxation with the tags ISIF and LATTICE_CONSTRAINTS.

    The cell with 0, 1 and 2; with 5, 6 and 7 the atoms, in fractional coordinates. What else is held of a cell, its
    volume, its shape or lattice vectors, is told by `moves` alone. Raises UnusableError for tags that are none.
    """
    held = np.ones((len(crystal.numbers), 3), dtype=bool) if isif in ('5', '6', '7') else crystal.fixed
    moves = moves_by_isif(isif, constraints)
    return crystal._replace(fixed=held, fixed_cell=isif in ('0', '1', '2'), moves=moves)


def moves_by_isif(isif: str, constraints: Any = None) -> str:
    """Return what VASP moves with the tags ISIF and LATTICE_CONSTRAINTS: a word of `Moves` where there is one.

    `in-plane` holds c; of other lattice vectors that LATTICE_CONSTRAINTS holds, the letters stand behind the word. That
    atoms are held, too, as with 5 and 6, is told by `Sites.fixed`. Raises UnusableError for tags that are none.
    """
    if isif not in MOVES_BY_ISIF:
        raise UnusableError(f'ISIF: expected a number from 0 to 8, found {isif!r}')
    moves = MOVES_BY_ISIF[isif]
    words = constraints if isinstance(constraints, list | tuple) else str(constraints or '').split()
    try:
        held = ''.join(letter for letter, word in zip(AXES, words, strict=False) if not fortran.logical(str(word)))
    except ValueError as error:
        raise UnusableError(f'LATTICE_CONSTRAINTS: expected three logicals, found {constraints!r}') from error
    if not held or moves == Moves.POSITIONS:
        return moves
    return Moves.IN_PLANE.value if (moves, held) == (Moves.CELL, 'c') else f'{moves}, {held} held'


def sites_of_structure(structure: Any) -> Sites:
    """Return a pymatgen structure as plain arrays; raises UnusableError for partial occupancies."""
    if not structure.is_ordered:
        raise UnusableError(f'partial occupancies: {structure.composition.formula}; {ADVICE}')
    return Sites(
        np.array([site.specie.Z for site in structure], dtype=np.int64),
        np.asarray(structure.cart_coords, dtype=np.float64),
        np.asarray(structure.lattice.matrix, dtype=np.float64),
        np.ones(3, dtype=bool),
    )
