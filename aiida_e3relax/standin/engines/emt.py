"""Effective medium theory for seven metals, by ASE."""

from collections.abc import Iterator

import numpy as np
from ase import Atoms
from ase.calculators.emt import EMT
from ase.stress import voigt_6_to_full_3x3_stress

from aiida_e3relax.standin.engines.base import Energies, Response, refuse_elements
from aiida_e3relax.standin.geometry import FractionalGeometry
from aiida_e3relax.standin.inputs import Inputs

METALS = frozenset(['Al', 'Ni', 'Cu', 'Pd', 'Ag', 'Pt', 'Au'])
"""Elements whose parameters are meant in earnest (ASE's H, C, N and O are not)."""


def check_elements(symbols: list[str]) -> None:
    """Raise StandInError for elements that are not in `METALS`."""
    refuse_elements('emt', set(symbols) - METALS, f'it has {", ".join(sorted(METALS))}: use gpaw')


class EMTEngine:
    """ASE's EMT calculator; fast, for tests of everything around the calculator.

    Raises
    ------
    StandInError
        If the crystal has other elements than `METALS`.
    """

    name = 'emt'
    description = "effective medium theory (ASE's EMT), no electrons"
    electronic = False
    n_bands = 1

    def __init__(self, inputs: Inputs):
        check_elements(inputs.poscar.symbols)
        self.kpoints = inputs.kpoints.irreducible
        self._atoms = Atoms(inputs.poscar.symbols, pbc=True, calculator=EMT())

    def iterate(self, geometry: FractionalGeometry) -> Iterator[Energies]:
        """Yield the energies once: there is no self-consistency."""
        self._atoms.set_cell(geometry.cell)
        self._atoms.set_scaled_positions(geometry.scaled)
        energy = float(self._atoms.get_potential_energy())
        yield Energies(energy, energy, energy)

    def response(self) -> Response:
        """Return forces and stress."""
        forces = self._atoms.get_forces()
        drift = forces.sum(axis=0)
        stress = voigt_6_to_full_3x3_stress(self._atoms.get_stress())
        return Response(forces - drift / len(forces), np.asarray(stress), drift)

    def bands(self) -> None:
        """Return None: there are no electrons."""
