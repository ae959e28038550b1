"""The degrees of freedom of a relaxation: one choice for the prediction and for VASP alike."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.common.mappings import check_keys
from aiida_e3relax.common.strict_json import parse_json
from aiida_e3relax.crystals.freedom.words import AXES, NO_VACUUM, Moves


@dataclasses.dataclass(frozen=True)
class Freedom:
    """The degrees of freedom of a relaxation.

    Attributes
    ----------
    moves
        A value of `Moves`.
    fixed
        The sites, counted from 0, that keep fractional coordinates, by the letters of the lattice vectors along which
        they do: `{'abc': [0, 1], 'c': [5]}` holds two sites altogether and the height of a third.
    keep_symmetry
        Whether the prediction is symmetrised to the space group of the input; VASP keeps that of its start by itself.
    vacuum
        The letter of the lattice vector that crosses a vacuum, or `none` for a crystal without; None where the periodic
        directions of the structure, or else its gaps, decide.
    """

    moves: str = Moves.CELL.value
    fixed: Mapping[str, Sequence[int]] = dataclasses.field(default_factory=dict)
    keep_symmetry: bool = False
    vacuum: str | None = None

    def __post_init__(self) -> None:
        known = [choice.value for choice in Moves]
        if self.moves not in known:
            near = difflib.get_close_matches(str(self.moves).lower(), known, n=1)
            hint = f'; did you mean `{near[0]}`?' if near else ''
            raise ValueError(f'expected {", ".join(known[:-1])} or {known[-1]}, found {self.moves!r}{hint}')
        if not isinstance(self.keep_symmetry, bool):
            raise ValueError(f'`keep_symmetry`: expected true or false, found {self.keep_symmetry!r}')
        if self.vacuum is not None and self.vacuum not in (*AXES, NO_VACUUM):
            raise ValueError(f'`vacuum`: expected the lattice vector a, b or c, or none, found {self.vacuum!r}')
        if not isinstance(self.fixed, Mapping):
            raise ValueError(f"`fixed`: expected a mapping such as {{'abc': [0, 1]}}, found {self.fixed!r}")
        for letters, sites in self.fixed.items():
            if not isinstance(letters, str) or not letters or not set(letters) <= set(AXES):
                raise ValueError(f'`fixed`: expected keys of the letters a, b and c, found {letters!r}')
            if isinstance(sites, str) or not isinstance(sites, Sequence) or not all(_is_index(site) for site in sites):
                raise ValueError(f'`fixed`: expected a list of sites counted from 0 for {letters!r}, found {sites!r}')

    @classmethod
    def from_value(cls, value: str | Mapping[str, Any]) -> Self:
        """Return the freedom that a value of `Moves` or a mapping of fields stands for; raises ValueError otherwise."""
        if isinstance(value, str):
            return cls(moves=value)
        if not isinstance(value, Mapping):
            raise ValueError(f'expected a word or a mapping such as {{moves: in-plane, vacuum: c}}, found {value!r}')
        check_keys(map(str, value), [field.name for field in dataclasses.fields(cls)])
        return cls(**value)

    def movable(self, n_sites: int) -> NDArray[np.bool_]:
        """Return ``(n_sites, 3)`` whether a fractional coordinate may change: VASP's selective dynamics.

        Raises ValueError for a site that does not exist.
        """
        movable = np.ones((n_sites, 3), dtype=bool)
        for letters, sites in self.fixed.items():
            for site in sites:
                if site >= n_sites:
                    raise ValueError(f'`fixed`: there is no site {site}; sites count from 0 to {n_sites - 1}')
                movable[site, [AXES.index(letter) for letter in letters]] = False
        return movable

    def vacuum_axis(self, pbc: Sequence[bool] | NDArray[np.bool_]) -> int | None:
        """Return the index of the lattice vector that is said to cross a vacuum; None where it is not said."""
        if self.vacuum is not None:
            return None if self.vacuum == NO_VACUUM else AXES.index(self.vacuum)
        open_axes = np.flatnonzero(~np.asarray(pbc))
        return int(open_axes[0]) if len(open_axes) else None

    def relax_flags(self, n_sites: int) -> dict[str, bool]:
        """Return the flags of aiida-vasp's `relax_settings` that say the same; they set ISIF."""
        atoms_move = self.moves != Moves.VOLUME and bool(self.movable(n_sites).any())
        return {
            'positions': atoms_move,
            'shape': self.moves in (Moves.CELL, Moves.SHAPE, Moves.IN_PLANE),
            'volume': self.moves in (Moves.CELL, Moves.VOLUME, Moves.IN_PLANE),
        }

    def incar_tags(self, open_axes: Sequence[int]) -> dict[str, str]:
        """Return the INCAR tags beside ISIF that hold what may not move; `open_axes` lead across the vacuum."""
        if self.moves != Moves.IN_PLANE:
            return {}
        released = ['.FALSE.' if axis in open_axes else '.TRUE.' for axis in range(3)]
        return {'lattice_constraints': ' '.join(released)}

    def holding(self, movable: NDArray[np.bool_] | None) -> Self:
        """Return the same freedom with what ``(n_sites, 3)`` `movable` holds fixed too; None holds nothing."""
        if movable is None or movable.all():
            return self
        return dataclasses.replace(self, fixed=fixed_coordinates(self.movable(len(movable)) & movable))

    def dynamics(self, n_sites: int) -> dict[str, list[list[bool]]] | None:
        """Return aiida-vasp's input `dynamics`, or None where every site may move."""
        movable = self.movable(n_sites)
        return None if movable.all() else {'positions_dof': movable.tolist()}


def fixed_coordinates(movable: NDArray[np.bool_]) -> dict[str, list[int]]:
    """Return `fixed` of a freedom from ``(n_sites, 3)`` whether a fractional coordinate may change."""
    fixed: dict[str, list[int]] = {}
    for site in np.flatnonzero(~movable.all(axis=1)).tolist():
        letters = ''.join(letter for letter, free in zip(AXES, movable[site], strict=True) if not free)
        fixed.setdefault(letters, []).append(site)
    return fixed


def read_freedom_text(text: str, vacuum: str | None = None) -> dict[str, Any]:
    """Return the fields of the freedom that a command line gives: a word, or a mapping as YAML or JSON.

    `vacuum` is that of an option of its own. Raises ValueError for what is neither, and for two different vacuums.
    """
    fields: Any = {'moves': text}
    if '{' in text or ':' in text:
        fields = _parse_fields(text)
    freedom = Freedom.from_value(fields)
    if vacuum is not None and freedom.vacuum not in (None, vacuum):
        raise ValueError(f'`vacuum` is {freedom.vacuum} there and {vacuum} in its own option; leave one of the two out')
    return {**fields, 'vacuum': vacuum} if vacuum is not None else dict(fields)


def _parse_fields(text: str) -> Any:
    """Return the value of a text in JSON, in which programs write it, or in YAML; raises ValueError for neither."""
    with suppress(ValueError):
        return parse_json(text)
    from aiida_e3relax.common.strict_yaml import load_yaml  # PyYAML is no need for words and JSON

    try:
        return load_yaml(text)
    except ValueError as error:
        raise ValueError(f'expected YAML such as {{moves: in-plane, vacuum: c}}, found {text!r}: {error}') from error


def _is_index(site: Any) -> bool:
    return isinstance(site, int) and not isinstance(site, bool) and site >= 0
