"""Chemistry of a start: which elements stand for each other, and the family of a compound by its anion."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cache
from typing import Any

PLACES = 4
"""How far elements may be apart in Pettifor's order to be alike."""

ROWS = 2
"""How many rows of the periodic table elements of one group may be apart."""

SMALL_HALOGENS = frozenset({'F', 'Cl'})
"""Halogens whose sites hydrogen takes in hydrides such as KMgH3."""

FAMILIES = {
    'fluorides': 'F',
    'oxides': 'O',
    'nitrides': 'N',
    'halides': 'Cl Br I',
    'chalcogenides': 'S Se Te',
    'pnictides': 'P As Sb Bi',
    'hydrides': 'H',
    'carbides': 'C',
    'borides': 'B',
    'tetrelides': 'Si Ge',
}
"""The anions of each family."""

INTERMETALLICS, ELEMENTS = 'intermetallics', 'elements'
"""The families of compounds without any of these anions, and of elements."""

NOBLE_GASES = frozenset({'He', 'Ne', 'Ar', 'Kr', 'Xe', 'Rn'})
"""Part of no start: they are no bond's end in the data, and potentials of pairs hold them badly."""

_FAMILY_OF = {anion: family for family, anions in FAMILIES.items() for anion in anions.split()}


def family_of(symbols: Iterable[str]) -> str:
    """Return the family of a compound of these elements: that of its most electronegative anion, after Pauling.

    An oxyfluoride is a fluoride, an amide a nitride.
    """
    kinds = set(symbols)
    if len(kinds) == 1:
        return ELEMENTS
    anions = [symbol for symbol in kinds if symbol in _FAMILY_OF]
    if not anions:
        return INTERMETALLICS
    return _FAMILY_OF[max(anions, key=lambda symbol: (_element(symbol).X, symbol))]


def alike(symbol: str, known: Collection[str]) -> list[str]:
    """Return the elements among `known` that may stand for an element, itself first if it is known.

    They are those of its group in the periodic table, not more than `ROWS` rows away, in scandium's group, which holds
    all lanthanides and actinides, with a common oxidation state in common, and of elements that are no anions those
    within `PLACES` of it in Pettifor's order (J. Phys. C 19, 285 (1986); pymatgen's Mendeleev numbers)
    with a common oxidation state in common. Hydrogen is no alkali metal: it stands for `SMALL_HALOGENS`, and these for
    it.
    """
    one, allowed = _element(symbol), set(known) - NOBLE_GASES
    others = []
    for name in sorted(allowed - {symbol}):
        other = _element(name)
        shares = bool(set(one.common_oxidation_states) & set(other.common_oxidation_states))
        apart = abs(other.mendeleev_no - one.mendeleev_no)
        if 'H' in (symbol, name):
            stands = bool(SMALL_HALOGENS & {symbol, name})
        elif other.group == one.group:
            stands = shares if one.group == 3 else abs(other.row - one.row) <= ROWS
        else:
            stands = apart <= PLACES and shares and not _FAMILY_OF.keys() & {symbol, name}
        if stands:
            others.append((apart, name))
    return [symbol] * (symbol in allowed) + [name for _, name in sorted(others)]


@cache
def _element(symbol: str) -> Any:
    from pymatgen.core import Element

    return Element(symbol)
