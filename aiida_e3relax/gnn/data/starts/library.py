"""What starts are made from: pymatgen's AFLOW prototypes, and the real crystals that the training pairs end in."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.common.progress import progress
from aiida_e3relax.crystals.duplicates import first_of_each
from aiida_e3relax.crystals.freedom.vacuum import find_gap
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.crystals.structures import Crystals, make_crystals, pymatgen_structure
from aiida_e3relax.crystals.symmetry import SpaceGroup
from aiida_e3relax.gnn.data.splits import SYMMETRY_TOLERANCE, prototypes_of
from aiida_e3relax.gnn.data.starts.classes import prototype_class_of
from aiida_e3relax.gnn.data.starts.elements import NOBLE_GASES, family_of

if TYPE_CHECKING:
    from pymatgen.core import Structure

MOST_ATOMS = 24
"""Of a start."""

MOST_OF_PROTOTYPE = 12
"""Atoms of a crystal that stands for its prototype."""

FREE = 1e-3
"""In A: what displacements of about 1 A leave of themselves where symmetry fixes all sites is less."""


@dataclasses.dataclass(frozen=True, eq=False)
class Base:
    """A crystal that starts are made from: its name, its prototype as `prototypes_of` names it, and its structure."""

    name: str
    prototype: str
    structure: Structure

    @cached_property
    def prototype_class(self) -> str:
        """The class of prototypes that it is of, see `prototype_class_of`."""
        return prototype_class_of(as_crystals([self.structure]), self.prototype)

    @property
    def symbols(self) -> list[str]:
        """The elements in it, by their atomic numbers."""
        return [element.symbol for element in sorted(self.structure.composition.elements, key=lambda e: e.Z)]


@dataclasses.dataclass(frozen=True, eq=False)
class Library:
    """The crystals that starts are made from.

    Attributes
    ----------
    elements
        Those that starts are made of.
    real
        Crystals as DFT relaxed them.
    by_family
        Those, by the family of the compound.
    known
        Reduced formula and prototype of these, and of the crystals of all sizes that DFT relaxed to train on, as they
        were before: what DFT relaxed to a lower symmetry is known, too.
    by_prototype
        Those and AFLOW's, by the prototypes that leave some coordinate free.
    """

    elements: frozenset[str]
    real: list[Base]
    known: frozenset[tuple[str, str]]
    by_family: dict[str, list[Base]]
    by_prototype: dict[str, list[Base]]

    @classmethod
    def of(cls, pairs: Pairs) -> Library:
        """Return the library that the training split of `pairs` makes, with AFLOW's prototypes."""
        real = real_crystals(pairs)
        elements = frozenset(symbol for base in real for symbol in base.symbols) - NOBLE_GASES
        by_family, by_prototype = defaultdict(list), defaultdict(list)
        for base in real:
            by_family[family_of(base.symbols)].append(base)
        for base in [*aflow_prototypes(), *real]:
            if len(base.structure) <= MOST_OF_PROTOTYPE:
                by_prototype[base.prototype].append(base)
        free = {name: found for name, found in by_prototype.items() if has_free_coordinates(found[0].structure)}
        known = frozenset((base.structure.composition.reduced_formula, base.prototype) for base in real)
        return cls(
            elements,
            real,
            known | _compounds(pairs.unrelaxed.select(_real(pairs))),
            dict(sorted(by_family.items())),
            dict(sorted(free.items())),
        )


def real_crystals(pairs: Pairs) -> list[Base]:
    """Return the relaxed crystals to train on, up to `MOST_ATOMS`; labels such as ``donor>target`` name the target."""
    real, _ = real_pairs(pairs)
    crystals = pairs.as_filed.select(real[pairs.unrelaxed.n_atoms[real] <= MOST_ATOMS])
    return _bases([str(label).rpartition('>')[2] for label in crystals.labels], crystals)


def real_pairs(pairs: Pairs) -> tuple[NDArray[np.int64], int]:
    """Return the pairs that end in a real bulk crystal, one for each crystal, and how many are none.

    They are of the split ``train``, and no teacher relaxed them. Where atoms or the cell are fixed, or a vacuum is, the
    end is no minimum of a bulk crystal: of slabs, layers and defects in a host's cell nothing else is known here.
    """
    real = _real(pairs)
    held = np.flatnonzero(pairs.anchored.any(axis=1) | (False if pairs.fixed_cell is None else pairs.fixed_cell))
    free = np.setdiff1d(real, held)
    if not len(free):
        return free, len(real)
    ends = free[first_of_each(pairs.relaxed.select(free))]
    bulk = [
        index
        for index in progress(ends.tolist(), 'looking for bulk crystals')
        if pairs.relaxed.pbc[index].all() and find_gap(pairs.relaxed.select([index])) is None
    ]
    return np.array(bulk, dtype=np.int64), len(real) - len(free) + len(ends) - len(bulk)


def _real(pairs: Pairs) -> NDArray[np.int64]:
    """Return the pairs to train on that no teacher relaxed."""
    taught = pairs.about.get('teacher', np.full(len(pairs), '')) != ''
    return np.flatnonzero((pairs.split == 'train') & ~taught)


def _compounds(crystals: Crystals) -> set[tuple[str, str]]:
    """Return reduced formula and prototype of each crystal."""
    from ase.data import chemical_symbols
    from pymatgen.core import Composition

    numbers = np.split(crystals.numbers, crystals.offsets[1:-1])
    formulas = [Composition(Counter(chemical_symbols[z] for z in some)).reduced_formula for some in numbers]
    return set(zip(formulas, prototypes_of(crystals), strict=True))


def aflow_prototypes() -> list[Base]:
    """Return pymatgen's prototypes of AFLOW, up to `MOST_ATOMS`, under AFLOW's names."""
    from pymatgen.analysis.prototypes import AFLOW_PROTOTYPE_LIBRARY

    names, structures = [], []
    for entry in AFLOW_PROTOTYPE_LIBRARY:
        structure = entry['snl'].structure.copy()
        structure.remove_oxidation_states()
        if structure.is_ordered and len(structure) <= MOST_ATOMS:
            names.append(entry['tags']['aflow'])
            structures.append(structure)
    return _bases(names, as_crystals(structures))


def _bases(names: Iterable[str], crystals: Crystals) -> list[Base]:
    return [
        Base(name, prototype, pymatgen_structure(crystals, index))
        for index, (name, prototype) in enumerate(zip(names, prototypes_of(crystals), strict=True))
    ]


def as_crystals(structures: Iterable[Structure], labels: list[str] | None = None) -> Crystals:
    """Return structures of pymatgen as one batch."""
    structures = list(structures)
    return make_crystals(
        [[site.specie.Z for site in structure] for structure in structures],
        [structure.cart_coords for structure in structures],
        [structure.lattice.matrix for structure in structures],
        labels,
    )


def has_free_coordinates(structure: Structure) -> bool:
    """Return whether symmetry leaves some coordinate free, so that a relaxation may move atoms."""
    crystal = as_crystals([structure])
    moves = np.random.default_rng(0).normal(size=crystal.positions.shape)
    try:
        group = SpaceGroup.of(crystal, crystal.numbers, SYMMETRY_TOLERANCE)
    except ValueError:
        return True
    kept = group.symmetrise_displacements(moves @ np.linalg.inv(crystal.cell[0])) @ crystal.cell[0]
    return bool(np.linalg.norm(kept - kept.mean(axis=0), axis=1).max() > FREE)
