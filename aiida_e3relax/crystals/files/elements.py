"""Elements by their symbols, isotopes and VASP potentials."""

from __future__ import annotations

import re

from aiida_e3relax.common.messages import short
from aiida_e3relax.crystals.files.errors import CrystalFileError

ISOTOPES = {'D': 'H', 'T': 'H'}
"""Names of isotopes beside the element: relaxation knows no masses."""

_POTCAR_WORD = re.compile(r'([A-Z][a-z]?)([_.][A-Za-z0-9_.+-]*)?(/[0-9a-fA-F]*)?')


def read_atomic_number(symbol: str, where: str) -> int:
    """Return the atomic number of an element's symbol; D and T are hydrogen. `where` begins the message of an error.

    Raises CrystalFileError for dummy atoms, vacancies and anything else.
    """
    from ase.data import atomic_numbers

    number = atomic_numbers.get(ISOTOPES.get(symbol, symbol), 0)
    if number == 0:
        raise CrystalFileError(f"{where}: expected an element's symbol, found {short(symbol)!r}")
    return number


def potential_element(word: str, where: str) -> str:
    """Return the symbol in the name of a VASP potential, such as ``Ga_d``, ``Fe_pv/6a2f546d``, ``H.5`` or ``D``."""
    match = _POTCAR_WORD.fullmatch(word)
    symbol = match[1] if match else word
    read_atomic_number(symbol, where)
    return symbol


def isotope_note(symbols: list[str]) -> tuple[str, ...]:
    """Return a note on the isotopes among `symbols`, which are read as their element."""
    found = sorted(set(symbols) & set(ISOTOPES))
    return (f'{" and ".join(found)} read as H',) if found else ()
