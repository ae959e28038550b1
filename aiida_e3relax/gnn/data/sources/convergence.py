"""Whether a VASP run converged: its last forces, stress and energies against its own settings."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.gnn.data.sources.base import UnusableError
from aiida_e3relax.gnn.data.sources.vasprun_xml import RecordedStep, VasprunContent

KBAR = 6.241509e-4
"""eV/A^3."""

STRESS_FACTOR, STRESS_SMALL = 3.0, 1.0
"""A free cell is relaxed where its stress (eV/A^3) times the volume per atom (A^3) is below this factor times the bound
of the forces (eV/A), or the stress below so many kB. VASP's documentation gives no bound for the stress."""

SLACK = 1.01
"""Last digits of printed forces."""

_KINDS = {
    -1: 'no ions move',
    0: 'molecular dynamics',
    5: 'finite differences',
    6: 'finite differences',
    7: 'perturbation theory',
    8: 'perturbation theory',
    40: 'reaction coordinate',
    44: 'dimer method',
}


class Settings(Protocol):
    """What VASP ran with."""

    def number(self, name: str, default: float) -> float:
        """Return a setting as a number; raises UnusableError where it is none."""

    def logical(self, name: str) -> bool:
        """Return a setting that is true or false; false where it is missing."""


def check_forces(forces: NDArray[np.float64], bound: float, says: str) -> None:
    """Raise UnusableError where a force of `forces` ``(N, 3)`` is longer than `bound`, both in eV/A."""
    largest = float(np.linalg.norm(forces, axis=1).max(initial=0.0))
    if not largest <= SLACK * bound:
        raise UnusableError(f'did not converge: largest force {largest:.3g} eV/A in the last step, {says} {bound:g}')


def check_stress(stress: NDArray[np.float64], volume: float, n_atoms: int, bound: float) -> None:
    """Raise UnusableError where `stress` ``(3, 3)``, in kB, is larger than goes with a `bound` of the forces, in eV/A.

    `volume` is that of the cell, in A^3.
    """
    largest = float(np.abs(np.linalg.eigvalsh((stress + stress.T) / 2)).max())
    most = max(STRESS_SMALL, STRESS_FACTOR * bound * n_atoms / volume / KBAR)
    if not largest <= most:
        raise UnusableError(f'did not converge: stress {largest:.3g} kB in the last step, expected at most {most:.2g}')


def check_relaxation(run: Settings) -> None:
    """Raise UnusableError unless the settings of `run` are those of a relaxation by the forces of DFT."""
    if run.logical('ML_LMLFF'):
        raise UnusableError('no relaxation by DFT: ML_LMLFF, the steps are those of a machine-learned force field')
    if run.number('IMAGES', 0) > 0:
        raise UnusableError('no relaxation: IMAGES, one image of a nudged elastic band')
    if run.number('ICHAIN', 0) > 0:
        raise UnusableError('no relaxation: ICHAIN, a search for a saddle point')
    steps = int(run.number('NSW', 0))
    method = int(run.number('IBRION', 0 if steps > 0 else -1))
    if method not in (1, 2, 3):
        raise UnusableError(f'no relaxation: IBRION = {method}, {_KINDS.get(method, "another kind of run")}')
    if steps < 1:
        raise UnusableError(f'no relaxation: NSW = {steps}, no ions move')


def read_bound(run: Settings) -> float:
    """Return EDIFFG: in eV/A where it is negative, else in eV; raises UnusableError where a run has none."""
    bound = run.number('EDIFFG', 10 * run.number('EDIFF', 1e-4))
    if bound == 0:
        raise UnusableError('no relaxation: EDIFFG = 0, the run ends at NSW wherever it is then')
    return bound


def check_converged(run: VasprunContent) -> None:
    """Raise UnusableError unless the relaxation `run` ended where its own settings say that it is done.

    Forces, of the coordinates that selective dynamics leaves free, against a negative EDIFFG; the change of the energy
    against a positive one; the stress of what ISIF lets the cell do; the electronic steps of the last ionic step
    against NELM.
    """
    if run.fault or not run.steps:
        raise UnusableError(run.fault or 'damaged: no ionic step')
    bound = read_bound(run)
    if run.final is None:
        raise UnusableError('cut short: no final structure (finalpos)')
    last, most = run.steps[-1], int(run.number('NELM', 60))
    if last.electronic_steps >= most:
        raise UnusableError(f'electrons did not converge in the last step: {most} electronic steps, which is NELM')
    if bound > 0:
        _check_energy(run, bound)
    else:
        _check_residuals(run, last, -bound)


def _check_energy(run: VasprunContent, bound: float) -> None:
    """Compare with up to three steps before: a line search goes back to where it began."""
    changes = [
        abs(run.steps[-1].energies[name] - step.energies[name])
        for step in run.steps[-4:-1]
        for name in ('e_fr_energy', 'e_0_energy')
        if name in step.energies and name in run.steps[-1].energies
    ]
    if not changes:
        raise UnusableError('damaged: no energies in the last steps')
    if not min(changes) <= SLACK * bound:
        raise UnusableError(f'did not converge: the energy still changed by {min(changes):.3g} eV, EDIFFG is {bound:g}')


def _check_residuals(run: VasprunContent, last: RecordedStep, bound: float) -> None:
    free = int(run.number('ISIF', 2))
    if last.forces is None or last.geometry is None:
        raise UnusableError('damaged: no forces in the last step')
    cell, forces = last.geometry.cell, last.forces
    if free not in (5, 6, 7):  # in which no ion moves
        if run.movable is not None:
            along = forces @ np.linalg.inv(cell)  # VASP holds fractional coordinates
            forces = np.where(run.movable, along, 0.0) @ cell
        check_forces(forces, bound, 'EDIFFG is')
    if free >= 3 and last.stress is not None and 'LATTICE_CONSTRAINTS' not in run.settings:
        stress = last.stress - run.number('PSTRESS', 0) * np.eye(3)
        mean = np.trace(stress) / 3 * np.eye(3)
        if free in (4, 5):  # the volume stays
            stress = stress - mean
        elif free in (7, 8):  # the shape stays
            stress = mean
        check_stress(stress, abs(np.linalg.det(cell)), len(forces), bound)
