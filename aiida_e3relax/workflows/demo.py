"""Crystals to try the chain on: measured cells with other elements put in, as in a search for new compounds."""

from __future__ import annotations

import ase.build
from ase import Atoms
from ase.spacegroup import crystal

# Lattice constants at room temperature, in A.
GALLIUM_ARSENIDE = 5.6533
SODIUM_CHLORIDE = 5.6402
COPPER_GOLD = 3.7493  # ordered Cu3Au

RATTLE = 0.08
"""Standard deviation in A of the shifts that take the metal's atoms off their sites."""

SUITED = {'vasp-standin-emt': 'metal', 'vasp-standin-ionic': 'salt'}
"""The crystal that suits a toy engine of the stand-in, by the label of its code; others take the semiconductor."""


def demo_crystal(kind: str) -> Atoms:
    """Return a demonstration crystal: one of `DEMO_CRYSTALS`.

    No data set of the shipped checkpoint, not even for validation or test, holds one of these formulas.
    """
    return DEMO_CRYSTALS[kind]()


def _semiconductor() -> Atoms:
    """SiSn in the measured cell of GaAs."""
    return ase.build.bulk('SiSn', 'zincblende', a=GALLIUM_ARSENIDE)


def _salt() -> Atoms:
    """CaTe in the measured cell of NaCl."""
    return ase.build.bulk('CaTe', 'rocksalt', a=SODIUM_CHLORIDE)


def _metal() -> Atoms:
    """Ag3Pd in the measured cell of Cu3Au, rattled."""
    sites = [(0, 0, 0), (0, 0.5, 0.5)]
    alloy = crystal(['Pd', 'Ag'], sites, spacegroup=221, cellpar=[COPPER_GOLD] * 3 + [90] * 3)
    alloy.rattle(RATTLE, seed=1)
    return alloy


DEMO_CRYSTALS = {'semiconductor': _semiconductor, 'salt': _salt, 'metal': _metal}
