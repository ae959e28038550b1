"""Crystals to try the chain on: measured cells with other elements put in, as in a search for new compounds."""

from __future__ import annotations

# ASE is imported where a crystal is made: a command line offers these by name, and should not have to wait for it.
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ase import Atoms

# Lattice constants at room temperature, in A.
GALLIUM_ARSENIDE = 5.6533
SODIUM_CHLORIDE = 5.6402
COPPER_GOLD = 3.7493  # ordered Cu3Au
NICKEL_ALUMINIUM = 2.887  # NiAl, the structure of CsCl

RATTLE = 0.08
"""Standard deviation in A of the shifts that take the metal's atoms off their sites."""

L12_ALLOYS = (
    ('Ag', 'Pd'),
    ('Ag', 'Pt'),
    ('Au', 'Ni'),
    ('Cu', 'Ag'),
    ('Ni', 'Ag'),
    ('Pd', 'Au'),
    ('Pt', 'Ag'),
    ('Al', 'Au'),
)
B2_ALLOYS = (('Ag', 'Cu'), ('Au', 'Pd'), ('Cu', 'Pt'), ('Al', 'Ag'))

SUITED = {'vasp-standin-emt': 'metal', 'vasp-standin-ionic': 'salt'}
"""The crystal that suits a toy engine of the stand-in, by the label of its code; others take the semiconductor."""


def demo_crystal(kind: str) -> Atoms:
    """Return a demonstration crystal: one of `DEMO_CRYSTALS`.

    No data set of the shipped checkpoint, not even for validation or test, holds one of these formulas.
    """
    return DEMO_CRYSTALS[kind]()


def campaign_crystals() -> dict[str, Atoms]:
    """Return crystals for a first campaign by label: ordered alloys in the cells of Cu3Au and NiAl, rattled.

    All are of elements that effective medium theory knows, so that the stand-in relaxes each in seconds.
    """
    import ase.build

    crystals = {}
    for place, (major, minor) in enumerate(L12_ALLOYS):
        crystals[f'{major}3{minor}'] = _ordered_alloy(major, minor, seed=place)
    for place, (first, second) in enumerate(B2_ALLOYS):
        atoms = ase.build.bulk(first + second, 'cesiumchloride', a=NICKEL_ALUMINIUM)
        atoms.rattle(RATTLE, seed=place)
        crystals[first + second] = atoms
    return crystals


def _ordered_alloy(major: str, minor: str, seed: int) -> Atoms:
    """Return an alloy in the measured cell of Cu3Au, rattled."""
    from ase.spacegroup import crystal

    sites = [(0, 0, 0), (0, 0.5, 0.5)]
    alloy = crystal([minor, major], sites, spacegroup=221, cellpar=[COPPER_GOLD] * 3 + [90] * 3)
    alloy.rattle(RATTLE, seed=seed)
    return alloy


def _semiconductor() -> Atoms:
    """SiSn in the measured cell of GaAs."""
    import ase.build

    return ase.build.bulk('SiSn', 'zincblende', a=GALLIUM_ARSENIDE)


def _salt() -> Atoms:
    """CaTe in the measured cell of NaCl."""
    import ase.build

    return ase.build.bulk('CaTe', 'rocksalt', a=SODIUM_CHLORIDE)


def _metal() -> Atoms:
    """Ag3Pd in the measured cell of Cu3Au, rattled."""
    return _ordered_alloy('Ag', 'Pd', seed=1)


DEMO_CRYSTALS = {'semiconductor': _semiconductor, 'salt': _salt, 'metal': _metal}
