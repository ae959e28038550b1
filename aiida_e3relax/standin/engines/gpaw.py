"""Density-functional theory by GPAW: plane waves and the projector augmented-wave method."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress
from ase.units import Ha
from gpaw import KohnShamConvergenceError
from gpaw.dft import KPoints as GPAWKPoints
from gpaw.dft import MonkhorstPack, Symmetry
from gpaw.new.ase_interface import GPAW

from aiida_e3relax.standin.engines.base import Bands, Energies, Response
from aiida_e3relax.standin.errors import StandInError
from aiida_e3relax.standin.geometry import FractionalGeometry
from aiida_e3relax.standin.inputs import Inputs
from aiida_e3relax.standin.kpoints import KPoints

CUTOFF_FACTOR = 1.6
"""GPAW's projectors need more plane waves than VASP's for the same Pulay stress: ENCUT is multiplied by this."""

_FUNCTIONALS = {'PE': 'PBE', 'RP': 'RPBE', 'RE': 'revPBE'}
_EDIFF = 1e-4  # eV; GPAW's own density and wave-function criteria go with this accuracy of the energy


class GPAWEngine:
    """GPAW with the POTCAR's functional, ENCUT times 1.6, and EDIFF as convergence criterion.

    The plane-wave basis has the same cutoff at every geometry: its size follows the cell. (VASP keeps the number of
    plane waves of the first cell instead.) The stress is the derivative at a fixed number of plane waves, so that both
    differ by the Pulay stress, which the scaled cutoff makes small. Density and wave functions are carried from one
    ionic step to the next, also to a changed cell. The symmetry is the one of the first geometry throughout, as in
    VASP. Setups, the number of bands and the zero of the energy are GPAW's. The log is ``gpaw.txt``.

    Raises
    ------
    StandInError
        If an element has no setup or GPAW cannot do what INCAR or KPOINTS ask for.
    """

    name = 'gpaw'
    electronic = True

    def __init__(self, inputs: Inputs):
        settings = inputs.settings
        self._atoms = Atoms(
            inputs.poscar.symbols,
            cell=inputs.poscar.geometry.cell,
            scaled_positions=inputs.poscar.geometry.scaled,
            magmoms=_initial_moments(inputs),
            pbc=True,
        )
        self._spin = settings.ispin == 2
        functional, smearing = _functional(inputs), _occupations(inputs)
        cutoff = CUTOFF_FACTOR * inputs.encut
        self.description = f'density-functional theory by GPAW: {functional}, plane waves up to {cutoff:.0f} eV'
        self._extrapolation = smearing.get('order', 0) + 2
        tightness = min(1.0, settings.ediff / _EDIFF)
        self._calculator = GPAW(
            mode={'name': 'pw', 'ecut': cutoff},
            xc=functional,
            kpts=_sampling(inputs),
            occupations=smearing,
            symmetry=_symmetry(settings.isym),
            setups=_setups(inputs),
            spinpol=self._spin,
            convergence={
                'energy': settings.ediff / inputs.n_electrons,
                'density': 1e-4 * tightness**0.5,
                'eigenstates': 4e-8 * tightness,
            },
            maxiter=settings.nelm,
            txt=inputs.folder / 'gpaw.txt',
        )
        try:
            self._calculator.create_new_calculation(self._atoms)
        except FileNotFoundError as error:
            reason = str(error).splitlines()[0]
            raise StandInError(f'engine gpaw lacks a setup for an element of POSCAR ({reason}); use ionic') from error
        zone = self._calculator.dft.ibzwfs.ibz
        found = zone.symmetries
        self._calculator.params.symmetry = Symmetry(
            rotations=found.rotation_scc,
            translations=found.translation_sc,
            atommaps=found.atommap_sa,
            time_reversal=settings.isym >= 0,
        )
        asked = inputs.kpoints
        self.kpoints = KPoints(zone.kpt_kc, zone.weight_k, asked.divisions, asked.gamma, asked.shift)
        self.n_bands = int(self._calculator.get_number_of_bands())
        self._energies: Energies

    def iterate(self, geometry: FractionalGeometry) -> Iterator[Energies]:
        """Yield the energies of each iteration towards self-consistency, NELM of them if it is not reached."""
        self._atoms.set_cell(geometry.cell)
        self._atoms.set_scaled_positions(geometry.scaled)
        computed = False
        try:
            for context in self._calculator.icalculate(self._atoms):
                computed = True
                free, extrapolated = context.energies.total_free * Ha, context.energies.total_extrapolated * Ha
                without_entropy = free + self._extrapolation * (extrapolated - free)
                self._energies = Energies(float(free), float(without_entropy), float(extrapolated))
                yield self._energies
        except KohnShamConvergenceError:
            return  # as VASP: forces are taken from the density that was reached, and the outputs show NELM iterations
        if not computed:  # same geometry as before
            yield self._energies

    def response(self) -> Response:
        """Return forces and stress from the present density."""
        dft = self._calculator.dft
        forces = np.array(dft.calculate_forces())
        stress = voigt_6_to_full_3x3_stress(dft.calculate_stress())
        drift = forces.sum(axis=0)
        response = Response(forces - drift / len(forces), np.asarray(stress), drift)
        if not self._spin:
            return response
        moment = float(dft.magmoms()[0][2])
        return dataclasses.replace(response, magnetisation=moment, moments=self._moments())

    def _moments(self) -> np.ndarray:
        """Return the moments inside the augmentation spheres by angular momentum; their sums are GPAW's moments."""
        dft = self._calculator.dft
        degrees = [np.repeat(setup.l_j, 2 * np.array(setup.l_j) + 1) for setup in dft.setups]
        moments = np.zeros((len(degrees), max(3, 1 + max(of_site.max() for of_site in degrees))))
        for atom, density_matrices in dft.density.D_asii.items():
            # GPAW's name for the overlaps of partial waves inside the sphere is N0
            of_waves = ((density_matrices[0] - density_matrices[1]) * dft.density.N0_aii[atom]).sum(axis=1)
            np.add.at(moments[atom], degrees[atom], of_waves)
        return moments

    def bands(self) -> Bands:
        """Return eigenvalues and occupations at the irreducible points."""
        calculator = self._calculator
        return Bands(calculator.eigenvalues(), calculator.occupations(), float(calculator.get_fermi_level()))


def _initial_moments(inputs: Inputs) -> list[float] | None:
    if inputs.settings.ispin == 1:
        return None
    return list(inputs.settings.magmom or [1.0] * len(inputs.poscar.symbols))


def _functional(inputs: Inputs) -> str:
    asked = inputs.settings.gga or inputs.datasets[0].lexch
    if asked not in _FUNCTIONALS:
        raise StandInError(
            f'engine gpaw has the functionals {", ".join(_FUNCTIONALS)}, found {asked} (GGA of INCAR, else LEXCH of '
            'POTCAR); set GGA = PE'
        )
    return _FUNCTIONALS[asked]


def _occupations(inputs: Inputs) -> dict[str, Any]:
    ismear, width = inputs.settings.ismear, inputs.settings.sigma
    if ismear in (-4, -5):
        if inputs.kpoints.divisions is None or any(inputs.kpoints.shift):
            raise StandInError(f'INCAR: ISMEAR = {ismear} needs an unshifted mesh in KPOINTS; set ISMEAR = 0')
        return {'name': 'tetrahedron-method' if ismear == -4 else 'improved-tetrahedron-method'}
    if ismear == -1:
        return {'name': 'fermi-dirac', 'width': width}
    if ismear >= 0:
        return {'name': 'methfessel-paxton', 'width': width, 'order': ismear}
    raise StandInError(
        f'INCAR: ISMEAR must be -5, -4, -1, 0 or positive for engine gpaw, found {ismear}; set ISMEAR = 0'
    )


def _sampling(inputs: Inputs) -> MonkhorstPack | GPAWKPoints:
    kpoints = inputs.kpoints
    if kpoints.divisions is not None and not any(kpoints.shift):
        return MonkhorstPack(size=kpoints.divisions, gamma=kpoints.gamma or None)
    if np.ptp(kpoints.weights) > 1e-9:
        raise StandInError('KPOINTS: engine gpaw takes lists of points of equal weight only; give a mesh')
    return GPAWKPoints(kpoints.points.tolist())


def _symmetry(isym: int) -> Symmetry:
    return Symmetry(point_group=isym > 0, time_reversal=isym >= 0)


def _setups(inputs: Inputs) -> dict[int | str, str]:
    setups: dict[int | str, str] = {'default': 'paw'}
    species = [k for k, count in enumerate(inputs.poscar.counts) for _ in range(count)]
    if inputs.settings.hubbard:
        for atom, k in enumerate(species):
            hubbard = inputs.settings.hubbard[k]
            if hubbard is not None:
                setups[atom] = f':{"spdf"[hubbard.angular_momentum]},{hubbard.effective_u},0'
    return setups
