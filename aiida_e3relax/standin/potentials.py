"""Small licence-free potential files for every element, in the layout that aiida-vasp uploads."""

from collections.abc import Iterable
from pathlib import Path

from ase.data import atomic_masses, atomic_numbers

from aiida_e3relax.standin.errors import StandInError

HEAVIEST = 94
"""Plutonium."""

ENMAX = 400.0
"""eV, for all elements: a plain number of ours, used when INCAR has no ENCUT."""

_NOBLE_CORES = (0, 2, 10, 18, 36, 54, 86)
_EXTRA_ELECTRONS = {'pv': 6, 'sv': 8, 'd': 10}


def potential_names(elements: Iterable[str] | None = None) -> list[str]:
    """Return the names to write: every element plain, and as pymatgen's MPRelaxSet maps it (``Ti_pv``).

    Raises
    ------
    StandInError
        If one of the elements does not exist or is heavier than plutonium.
    """
    from pymatgen.io.vasp.sets import MPRelaxSet

    known = {symbol for symbol, number in atomic_numbers.items() if 1 <= number <= HEAVIEST}
    wanted = known if elements is None else set(elements)
    if wanted - known:
        raise StandInError(
            f'no element from H to Pu is called {", ".join(sorted(wanted - known))}; correct the symbols'
        )
    mapped = {name for element, name in MPRelaxSet.CONFIG['POTCAR'].items() if element in wanted}
    return sorted(wanted | mapped)


def valence_electrons(name: str) -> int:
    """Return the electrons outside the core of a potential such as ``Ga_d``.

    The core is the noble gas before the element plus filled d shells of the p block and filled f shells. Suffixes add
    ``_pv`` 6, ``_sv`` 8 (2 for Li and Be), ``_d`` 10; a digit is the valence itself.
    """
    element, _, suffix = name.partition('_')
    if suffix.isdigit():
        return int(suffix)
    number = atomic_numbers[element]
    core = max(size for size in _NOBLE_CORES if size < number)
    electrons = number - core
    f_block = core >= 54 and 3 < electrons < 18
    if core >= 54 and electrons >= 18:
        electrons -= 14
    if core >= 18 and electrons > 12 and not f_block:
        electrons -= 10
    extra = 2 if (suffix, core) == ('sv', 2) else _EXTRA_ELECTRONS.get(suffix, 0)
    return electrons + extra


def potential_text(name: str) -> str:
    """Return the content of a potential file; it has a header that programs can read and no potential."""
    element = name.partition('_')[0]
    mass, zval = atomic_masses[atomic_numbers[element]], valence_electrons(name)
    return (
        f'  PAW_PBE {name} standin\n'
        f'   {zval:.14f}\n'
        ' parameters from PSCTR are:\n'
        f'   VRHFIN ={element}: stand-in, no potential inside; not a POTCAR of VASP\n'
        '   LEXCH  = PE\n'
        f'   TITEL  = PAW_PBE {name} standin\n'
        f'   POMASS = {mass:8.3f}; ZVAL   = {zval:8.3f}    mass and valenz\n'
        f'   ENMAX  = {ENMAX:8.3f}; ENMIN  = {0.75 * ENMAX:8.3f} eV\n'
        ' END of PSCTR-controll parameters\n'
        ' End of Dataset\n'
    )


def write_potentials(folder: Path, elements: Iterable[str] | None = None) -> list[str]:
    """Write ``<folder>/<name>/POTCAR`` for every name of `potential_names` and return the names."""
    names = potential_names(elements)
    for name in names:
        path = folder / name / 'POTCAR'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(potential_text(name), encoding='utf-8')
    return names
