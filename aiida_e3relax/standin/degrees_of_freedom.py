"""What may move in a relaxation: which fractional coordinates and which strains of the lattice."""

import numpy as np
from scipy.linalg import expm

from aiida_e3relax.standin.errors import StandInError
from aiida_e3relax.standin.geometry import FractionalGeometry
from aiida_e3relax.standin.poscar import Poscar
from aiida_e3relax.standin.settings import ISIF, Settings

KBAR = 1602.1766208
"""kB in one eV/A^3."""

_STRAIN_LENGTH = 1.5
"""A; with the square root of the number of atoms it makes strains as stiff as displacements."""


class DegreesOfFreedom:
    """The coordinates that a relaxation may change, and the forces along them.

    A move and a force are arrays of shape (n_atoms + 3, 3): displacements of the atoms in A (forces in eV/A), then the
    symmetric strain times a length in A (minus the virial over that length, eV/A). A move is made from the present
    geometry: atoms are displaced and then everything is strained by the exponential of the strain, so that a strain
    without trace keeps the volume, a multiple of the identity keeps the shape, and fixed fractional coordinates stay
    as they are to the last bit.

    Parameters
    ----------
    poscar
        The crystal with its selective dynamics.
    settings
        ISIF, PSTRESS and LATTICE_CONSTRAINTS count, the last not in static runs.

    Raises
    ------
    StandInError
        If LATTICE_CONSTRAINTS asks for what cannot be kept exactly in this lattice or with this ISIF.
    """

    def __init__(self, poscar: Poscar, settings: Settings):
        n_atoms = len(poscar.symbols)
        degrees = ISIF[settings.isif]
        self._movable = np.full((n_atoms, 3), degrees.positions)
        if poscar.movable is not None:
            self._movable &= poscar.movable
        self._shape, self._volume = degrees.shape, degrees.volume
        self._axes = np.array(settings.released_axes)
        self._pressure = settings.pstress / KBAR
        self._length = _STRAIN_LENGTH * np.sqrt(n_atoms)
        self._n_atoms = n_atoms
        if not (self._axes.all() or settings.static) and (self._shape or self._volume):
            self._check_axes(poscar.geometry.cell)

    def _check_axes(self, cell: np.ndarray) -> None:
        if not self._shape:
            raise StandInError(
                'INCAR: LATTICE_CONSTRAINTS locks an axis but ISIF 7 and 8 scale all of them; use ISIF 3 or 6'
            )
        for axis in np.flatnonzero(~self._axes):
            others = np.arange(3) != axis
            if np.abs(cell[axis, others]).max() > 1e-6 or np.abs(cell[others, axis]).max() > 1e-6:
                raise StandInError(
                    f'INCAR: LATTICE_CONSTRAINTS locks {"xyz"[axis]}, which needs lattice vector {axis + 1} along '
                    f'{"xyz"[axis]} and the others normal to it; orient the lattice so, or release the axis'
                )

    def enthalpy(self, energy: float, geometry: FractionalGeometry) -> float:
        """Return the energy (eV) plus PSTRESS times the volume: what a relaxation minimises."""
        return energy + self._pressure * geometry.volume

    def force(self, geometry: FractionalGeometry, forces: np.ndarray, stress: np.ndarray) -> np.ndarray:
        """Return the force along what may move.

        Parameters
        ----------
        geometry
            Where the forces were taken.
        forces
            (n_atoms, 3), eV/A.
        stress
            (3, 3), derivative of the energy with respect to strain over the volume, eV/A^3.
        """
        virial = -geometry.volume * (stress + self._pressure * np.eye(3))
        return np.vstack([self._project_forces(geometry, forces), self._project_strain(virial) / self._length])

    def residual(self, force: np.ndarray) -> float:
        """Return what EDIFFG < 0 is compared with: the largest force on an atom or virial per atom, eV/A and eV."""
        atoms = np.linalg.norm(force[:-3], axis=1).max()
        return max(atoms, np.linalg.norm(force[-3:], axis=1).max() * self._length / self._n_atoms)

    def move(self, geometry: FractionalGeometry, move: np.ndarray) -> FractionalGeometry:
        """Return the geometry after a move."""
        displacements = np.where(self._movable, move[:-3] @ np.linalg.inv(geometry.cell), 0.0)
        if not (self._shape or self._volume):
            return FractionalGeometry(geometry.cell, geometry.scaled + displacements)
        strain = expm(self._project_strain(move[-3:]) / self._length)
        return FractionalGeometry(geometry.cell @ strain, geometry.scaled + displacements)

    def _project_forces(self, geometry: FractionalGeometry, forces: np.ndarray) -> np.ndarray:
        projected = np.where(self._movable.all(axis=1, keepdims=True), forces, 0.0)
        for atom in np.flatnonzero(self._movable.any(axis=1) & ~np.all(self._movable, axis=1)):
            free = geometry.cell[self._movable[atom]]  # directions in which the atom may go
            projected[atom] = forces[atom] @ np.linalg.pinv(free) @ free
        return projected

    def _project_strain(self, tensor: np.ndarray) -> np.ndarray:
        symmetric = (tensor + tensor.T) / 2
        trace = np.trace(symmetric) / 3 * np.eye(3)
        if not self._shape:
            return trace if self._volume else np.zeros((3, 3))
        released = np.where(np.outer(self._axes, self._axes), symmetric, 0.0)
        if self._volume or not self._axes.any():
            return released
        return released - np.trace(released) / self._axes.sum() * np.diag(self._axes.astype(float))
