"""The kinds of the sites of many structures, each kind kept once."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any, Self

import numpy as np
from aiida import orm
from numpy.typing import NDArray

from aiida_e3relax.data.structures import SYMBOLS, atomic_number


@dataclasses.dataclass(frozen=True)
class SiteKinds:
    """Kinds, and which of them each site has.

    Attributes
    ----------
    table
        The different kinds as AiiDA keeps them: `name`, `symbols`, `weights` and `mass`. Structures may have different
        kinds of one name.
    index
        ``(A,)`` the place in `table` of the kind of each site.
    """

    table: list[dict[str, Any]]
    index: NDArray[np.int32]

    @classmethod
    def of_elements(cls, numbers: NDArray[np.int64]) -> Self:
        """Return the kinds that carry the names of their elements, for atomic numbers ``(A,)``."""
        different, index = np.unique(numbers, return_inverse=True)
        table = [orm.Kind(symbols=SYMBOLS[number]).get_raw() for number in different.tolist()]
        return cls(table, index.astype(np.int32))

    @classmethod
    def of_structures(cls, structures: Iterable[orm.StructureData]) -> Self:
        """Return the kinds of the sites of `structures`, one after the other."""
        places: dict[str, int] = {}
        index: list[int] = []
        for structure in structures:
            place = {
                kind.name: places.setdefault(json.dumps(kind.get_raw(), sort_keys=True), len(places))
                for kind in structure.kinds
            }
            index += [place[site.kind_name] for site in structure.sites]
        return cls([json.loads(kind) for kind in places], np.array(index, dtype=np.int32))

    @property
    def numbers(self) -> NDArray[np.int64]:
        """``(A,)`` atomic numbers; 0 for a site that is not one whole atom of one element."""
        return table_numbers(self.table)[self.index]

    def take(self, atoms: NDArray[np.int64]) -> Self:
        """Return the kinds of the sites at the places `atoms`, without those that none of these sites has."""
        used, index = np.unique(self.index[atoms], return_inverse=True)
        return type(self)([self.table[place] for place in used.tolist()], index.astype(np.int32))


def table_numbers(table: Iterable[Mapping[str, Any]]) -> NDArray[np.int64]:
    """Return the atomic number of each kind of a table; 0 for anything but one whole atom of one element."""
    return np.array([atomic_number(orm.Kind(raw=dict(kind))) for kind in table], dtype=np.int64)
