"""The kinds of starts: each makes one start of a library by a random generator, and tells how."""

from __future__ import annotations

import dataclasses
import itertools
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from aiida_e3relax.crystals.freedom.words import Moves
from aiida_e3relax.crystals.perturbation import perturbed
from aiida_e3relax.crystals.structures import pymatgen_structure
from aiida_e3relax.gnn.data.starts.elements import alike
from aiida_e3relax.gnn.data.starts.layers import cut_layer
from aiida_e3relax.gnn.data.starts.library import MOST_ATOMS, Base, Library, as_crystals

if TYPE_CHECKING:
    from pymatgen.core import Structure

T = TypeVar('T')

STRAIN, RATTLE = 0.05, 0.2
"""Standard deviations of the diagonal entries of a strain (`perturbed`), and, in A and each direction, of moves."""

SMALLEST_CELL, LARGEST_REPEAT = 6, 4
"""Atoms at least in the cell that loses one, so that the vacancy is not everywhere, and its multiples at most."""


@dataclasses.dataclass(frozen=True, eq=False)
class Start:
    """One start of a relaxation.

    Attributes
    ----------
    recipe
        How it was made, in words.
    base
        The crystal that it was made from.
    structure
        The start.
    moves
        What the relaxation moves, a word of `Moves`.
    is_real
        Whether it is a real crystal but for noise or a vacancy, which no formula and prototype tell from another.
    """

    recipe: str
    base: Base
    structure: Structure
    moves: str = Moves.CELL.value
    is_real: bool = False


def make_prototype(library: Library, rng: np.random.Generator) -> Start | None:
    """Return a prototype with free coordinates with other elements put in, as large as it is or at a predicted volume.

    Each prototype is as likely as any other, however often it occurs.
    """
    names = list(library.by_prototype)
    return _substituted(_any(library.by_prototype[_any(names, rng)], rng), library, rng, _as_likely(rng))


def make_donor(library: Library, rng: np.random.Generator) -> Start | None:
    """Return a real crystal with other elements put in, its cell as it is."""
    return _substituted(_real(library, rng), library, rng, scaled=False)


def make_scaled_donor(library: Library, rng: np.random.Generator) -> Start | None:
    """Return a real crystal with other elements put in, at the volume that pymatgen predicts from bond lengths."""
    return _substituted(_real(library, rng), library, rng, scaled=True)


def make_layer(library: Library, rng: np.random.Generator) -> Start | None:
    """Return one layer of a real layered crystal with other elements put in; its lattice relaxes within the plane."""
    base = _real(library, rng)
    if not _is_layered(base):
        return None
    start = _substituted(base, library, rng, scaled=True)
    layer = None if start is None else cut_layer(start.structure)
    if start is None or layer is None or len(layer) == 1:
        return None
    return Start(f'a layer of {start.recipe}', start.base, layer, Moves.IN_PLANE.value)


def make_vacancy(library: Library, rng: np.random.Generator) -> Start | None:
    """Return a real crystal, repeated where it is small, without one of its atoms; its cell is fixed or not."""
    base = _real(library, rng)
    repeats = [r for r in _repeats() if SMALLEST_CELL <= len(base.structure) * np.prod(r) <= MOST_ATOMS]
    if not repeats or len(base.structure) == 1:
        return None
    structure, repeat = base.structure.copy(), _most_cubic(base.structure, repeats)
    structure.make_supercell(repeat)
    site = int(rng.integers(len(structure)))
    symbol = structure[site].specie.symbol
    structure.remove_sites([site])
    moves = Moves.POSITIONS if _as_likely(rng) else Moves.CELL
    times = 'x'.join(map(str, repeat))
    recipe = f'{base.name} {times} without one {symbol}, {"cell fixed" if moves == Moves.POSITIONS else "cell free"}'
    return Start(recipe, base, structure, moves.value, is_real=True)


def make_rattled(library: Library, rng: np.random.Generator) -> Start | None:
    """Return a real crystal, or one with other elements put in, strained and its atoms displaced at random."""
    base = _real(library, rng)
    start: Start | None = Start(base.name, base, base.structure, is_real=True)
    if _as_likely(rng):
        start = _substituted(base, library, rng, scaled=True)
    if start is None:
        return None
    structure = pymatgen_structure(perturbed(as_crystals([start.structure]), STRAIN, RATTLE, rng), 0)
    return dataclasses.replace(start, recipe=f'{start.recipe}, strained and rattled', structure=structure)


KINDS: dict[str, tuple[float, Callable[[Library, np.random.Generator], Start | None]]] = {
    'prototype': (0.40, make_prototype),
    'donor': (0.15, make_donor),
    'scaled-donor': (0.15, make_scaled_donor),
    'layer': (0.10, make_layer),
    'vacancy': (0.08, make_vacancy),
    'rattled': (0.12, make_rattled),
}
"""The kinds by name: their share of all starts, and what makes one, or None where this time there is none."""


def _substituted(base: Base, library: Library, rng: np.random.Generator, scaled: bool) -> Start | None:
    """Return a crystal with elements that are alike put in; None where all stay, or two came out the same.

    Each element is as likely to stay as to go.
    """
    swaps: dict[Any, Any] = {}
    for symbol in base.symbols:
        choices = alike(symbol, library.elements)
        if not choices:
            return None
        keeps = choices[0] == symbol and (len(choices) == 1 or _as_likely(rng))
        swaps[symbol] = symbol if keeps else _any(choices[choices[0] == symbol :], rng)
    if len(set(swaps.values())) < len(swaps) or all(old == new for old, new in swaps.items()):
        return None
    structure = base.structure.copy()
    structure.replace_species(swaps)
    recipe = f'{base.name} with ' + ', '.join(f'{new} for {old}' for old, new in swaps.items() if old != new)
    if scaled:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of elements whose bond lengths were not mined
            structure = _at_predicted_volume(structure)
        recipe += ', at the predicted volume'
    return Start(recipe, base, structure)


def _at_predicted_volume(structure: Structure) -> Structure:
    from pymatgen.analysis.structure_prediction.volume_predictor import DLSVolumePredictor

    return DLSVolumePredictor().get_predicted_structure(structure)


def _repeats() -> list[tuple[int, ...]]:
    return list(itertools.product(range(1, LARGEST_REPEAT + 1), repeat=3))


def _most_cubic(structure: Structure, repeats: list[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the repeat whose shortest lattice vector is the longest, the smallest of those."""
    lengths = np.array(structure.lattice.abc)
    return max(repeats, key=lambda r: (round((lengths * r).min(), 3), -np.prod(r), [-n for n in r]))


def _real(library: Library, rng: np.random.Generator) -> Base:
    """Return a real crystal, of each family as likely."""
    return _any(library.by_family[_any(list(library.by_family), rng)], rng)


@cache
def _is_layered(base: Base) -> bool:
    return cut_layer(base.structure) is not None


def _any(items: Sequence[T], rng: np.random.Generator) -> T:
    """Return an item, each as likely."""
    return items[int(rng.integers(len(items)))]


def _as_likely(rng: np.random.Generator) -> bool:
    """Return true or false, each as likely."""
    return bool(rng.integers(2))
