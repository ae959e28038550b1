"""Crystals to try the chain on: measured cells with other elements put in, as in a search for new compounds."""

from __future__ import annotations

import ase.build
from ase import Atoms
from ase.spacegroup import crystal

GALLIUM_ARSENIDE = 5.6533  # A, at room temperature
COPPER_GOLD = 3.7493  # A, ordered Cu3Au at room temperature
RATTLE = 0.08  # A


def demo_crystal(kind: str) -> Atoms:
    """Return a demonstration crystal.

    Parameters
    ----------
    kind
        `semiconductor`: AlSb in the measured cell of GaAs. `metal`: Ag3Pd in the measured cell of Cu3Au, the atoms
        shifted a little off their sites, for the EMT engine of the stand-in.

    Raises
    ------
    ValueError
        For another kind.
    """
    if kind == 'semiconductor':
        return ase.build.bulk('AlSb', 'zincblende', a=GALLIUM_ARSENIDE)
    if kind == 'metal':
        sites = [(0, 0, 0), (0, 0.5, 0.5)]
        alloy = crystal(['Pd', 'Ag'], sites, spacegroup=221, cellpar=[COPPER_GOLD] * 3 + [90] * 3)
        alloy.rattle(RATTLE, seed=1)
        return alloy
    raise ValueError(f'demo crystal: expected `semiconductor` or `metal`, found {kind!r}')
