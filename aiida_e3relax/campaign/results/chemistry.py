"""Classes of compounds, by the element that takes the electrons."""

from __future__ import annotations

from collections.abc import Sequence

from pymatgen.core import Element

INTERMETALLIC = 'intermetallics'
PURE = 'pure elements'
ANIONS = {
    'O': 'oxides',
    'N': 'nitrides',
    'C': 'carbides',
    'B': 'borides',
    'H': 'hydrides',
    **dict.fromkeys(('F', 'Cl', 'Br', 'I'), 'halides'),
    **dict.fromkeys(('S', 'Se', 'Te'), 'chalcogenides'),
    **dict.fromkeys(('P', 'As', 'Sb', 'Bi'), 'pnictides'),
    **dict.fromkeys(('Si', 'Ge', 'Sn', 'Pb'), 'tetrelides'),
}


def anion_class(elements: Sequence[str]) -> str:
    """Return the class of a compound of these elements, such as `oxides`, by the most electronegative of them.

    Noble gases take no electrons.
    """
    if len(elements) == 1:
        return PURE
    taking = [symbol for symbol in elements if not Element(symbol).is_noble_gas]
    return ANIONS.get(max(taking, key=lambda symbol: Element(symbol).X, default=''), INTERMETALLIC)
