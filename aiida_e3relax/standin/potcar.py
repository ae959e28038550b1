"""POTCAR: the datasets that the run names, one per species."""

import re
from dataclasses import dataclass

from aiida_e3relax.common import fortran
from aiida_e3relax.standin.errors import StandInError


@dataclass(frozen=True)
class Dataset:
    """Header of one potential: its title, element, valence electrons, cutoff (eV) and functional (LEXCH)."""

    title: str
    element: str
    zval: float
    enmax: float
    lexch: str


def parse_potcar(text: str) -> tuple[Dataset, ...]:
    """Read the headers of all datasets, in the order of the file.

    Raises
    ------
    StandInError
        If there is no dataset or a header lacks TITEL, ZVAL, ENMAX or LEXCH.
    """
    blocks = text.split('End of Dataset')[:-1]
    if not blocks:
        raise StandInError("POTCAR: expected datasets that close with 'End of Dataset', found none; write it anew")
    return tuple(_parse_block(block, number) for number, block in enumerate(blocks, start=1))


def _parse_block(block: str, number: int) -> Dataset:
    def value(key: str, pattern: str) -> str:
        match = re.search(rf'{key}\s*=\s*{pattern}', block)
        if match is None:
            raise unreadable(key)
        return match[1]

    def positive(key: str) -> float:
        try:
            number = fortran.real(value(key, r'([^\s;]+)'))
        except ValueError:
            raise unreadable(key) from None
        if number <= 0:
            raise unreadable(key)
        return number

    def unreadable(key: str) -> StandInError:
        return StandInError(
            f'POTCAR: dataset {number} has no readable {key}; write it with `e3relax-vasp-standin potentials`'
        )

    title = value('TITEL', r'(\S+ +\S+.*)').strip()
    return Dataset(
        title=title,
        element=re.split(r'[_.]', title.split()[1])[0],
        zval=positive('ZVAL'),
        enmax=positive('ENMAX'),
        lexch=value('LEXCH', r'(\w+)'),
    )
