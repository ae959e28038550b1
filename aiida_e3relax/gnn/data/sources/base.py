"""What every reader of pairs gives: candidates that are loaded one by one, so that one bad file costs one pair."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Sites(NamedTuple):
    """One crystal: ``numbers`` (N,), ``positions`` (N, 3) in A, ``cell`` (3, 3) with rows in A, ``pbc`` (3,)."""

    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    cell: NDArray[np.float64]
    pbc: NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A pair that may be read: ``load`` returns its unrelaxed and relaxed crystal, or raises what is wrong with it.

    `split` is train, val or test where the source says so, else empty.
    """

    label: str
    split: str
    load: Callable[[], tuple[Sites, Sites]]


@dataclasses.dataclass(frozen=True)
class Source:
    """A source that was found and looked over: its kind, name, candidates, and what a person should know of it."""

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


def sites_of(atoms: Any) -> Sites:
    """Return an ASE structure as plain arrays."""
    return Sites(
        np.asarray(atoms.numbers, dtype=np.int64),
        np.asarray(atoms.positions, dtype=np.float64),
        np.asarray(atoms.cell.array, dtype=np.float64),
        np.asarray(atoms.pbc, dtype=bool),
    )


def sites_of_structure(structure: Any) -> Sites:
    """Return a pymatgen structure as plain arrays."""
    return Sites(
        np.array([site.specie.Z for site in structure], dtype=np.int64),
        np.asarray(structure.cart_coords, dtype=np.float64),
        np.asarray(structure.lattice.matrix, dtype=np.float64),
        np.ones(3, dtype=bool),
    )
