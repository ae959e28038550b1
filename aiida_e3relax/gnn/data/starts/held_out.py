"""What starts may not be, so that nothing leaks into the splits that judge, and which are held out to judge by."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import numpy as np

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.common.messages import short, suggestion
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.gnn.data.splits import chemical_systems
from aiida_e3relax.gnn.data.starts.classes import PROTOTYPE_CLASSES
from aiida_e3relax.gnn.data.starts.elements import ELEMENTS, FAMILIES, INTERMETALLICS

HELD_OUT = ('fluorides', 'nitrides', 'perovskites', 'matlockites')
"""What is held out by default: two families of anions, two classes of prototypes."""

VALIDATION_SHARE = 20
"""One chemical system in so many is validated on."""


@dataclasses.dataclass(frozen=True)
class Refusals:
    """What starts may not be.

    Attributes
    ----------
    systems
        Chemical systems, such as ``Al-As-Ga``, that no start may have: those of the splits to validate and to test on,
        and of compounds that are judged elsewhere.
    trained
        Chemical systems of the pairs to train on: no split to validate on may have one of them.
    known
        Reduced formula and prototype of real crystals to train on, which no start may have with other elements put in:
        DFT has relaxed that compound.
    """

    systems: frozenset[str]
    trained: frozenset[str]
    known: frozenset[tuple[str, str]]

    def reason(self, system: str, formula: str, prototype: str, is_real: bool, split: str) -> str | None:
        """Return why a start for this `split` is refused, None where it is not."""
        if system in self.systems:
            return 'a chemical system of a split to judge by, or of a compound that is never to be learnt'
        if is_real and split != 'train':
            return 'a training crystal of what is held out or validated on'
        if not is_real and (formula, prototype) in self.known:
            return 'formula and prototype of a training pair: DFT relaxed it'
        return None


def systems_to_judge_by(pairs: Pairs) -> frozenset[str]:
    """Return the chemical systems of all splits of `pairs` but ``train``."""
    return frozenset(chemical_systems(pairs.select(np.flatnonzero(pairs.split != 'train'))))


def systems_to_train_on(pairs: Pairs) -> frozenset[str]:
    """Return the chemical systems of the split ``train`` of `pairs`."""
    return frozenset(chemical_systems(pairs.of_split('train')))


def read_never(words: Iterable[str]) -> frozenset[str]:
    """Return the chemical systems of formulas, or of those in text files, one a line, `#` before remarks.

    Raises InputError for what is neither.
    """
    from pymatgen.core import Composition

    formulas = []
    for word in words:
        path = Path(word)
        if path.is_file():
            lines = (line.partition('#')[0].strip() for line in path.read_text(encoding='utf-8').splitlines())
            formulas += [(line, word) for line in lines if line]
        else:
            formulas.append((word, '--never'))
    systems = []
    for formula, where in formulas:
        try:
            composition = Composition(formula, strict=True)
        except ValueError as error:
            raise InputError(
                f'{where}: expected a formula such as MoS2, or a file of such, found {short(repr(formula))}'
            ) from error
        systems.append('-'.join(sorted(element.symbol for element in composition.elements)))
    return frozenset(systems)


def splits_of_held_out(test: Collection[str], val: Collection[str] = ()) -> dict[str, str]:
    """Return the split of each family of anions and class of prototypes that is held out, to test or to validate on.

    Raises InputError for what is no family of anions and no class of prototypes, and for what is held out for both.
    """
    known = [*FAMILIES, INTERMETALLICS, ELEMENTS, *PROTOTYPE_CLASSES]
    for option, names in (('--held-out', test), ('--held-out-val', val)):
        for name in names:
            if name not in known:
                raise InputError(f'{option}: unknown {short(repr(name))}{suggestion(name, known)}')
    if both := sorted(set(test) & set(val)):
        raise InputError(
            f'--held-out-val: {", ".join(both)} are held out to test on (--held-out): what a model is calibrated on '
            'cannot test it, leave them out of one of the two'
        )
    return {name: f'test_{name}' for name in test} | {name: f'val_ood_{name}' for name in val}


def split_of(
    system: str, family: str, prototype_class: str, held_out: Mapping[str, str], trained: Collection[str] = ()
) -> str:
    """Return the split of a start: that of what is `held_out` and it belongs to, ``val``, or ``train``.

    Where it belongs to a class of prototypes and a family that both are, it is tested on if it may be, and the class
    goes first. Of the chemical systems that are not `trained` on already, one in `VALIDATION_SHARE` is validated on, by
    a hash of its name: whatever else is drawn, the same ones.
    """
    found = [held_out[name] for name in (prototype_class, family) if name in held_out]
    if found:
        return min(found, key=lambda split: split.startswith('val'))
    if system in trained:
        return 'train'
    digest = int.from_bytes(hashlib.sha256(system.encode()).digest()[:4], 'big')
    return 'val' if digest % VALIDATION_SHARE == 0 else 'train'
