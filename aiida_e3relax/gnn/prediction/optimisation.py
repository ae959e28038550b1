"""One crystal relaxed by an interatomic potential, with ASE's optimisers. `Lockstep` relaxes several at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from ase import Atoms
from ase.optimize import BFGS, FIRE
from ase.utils.abc import Optimizable
from numpy.typing import NDArray

from aiida_e3relax.crystals.freedom.motion import Motion
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.crystals.validation import geometry_fault
from aiida_e3relax.gnn.potentials.evaluation import Results
from aiida_e3relax.gnn.prediction.lockstep import Steps
from aiida_e3relax.gnn.prediction.settings import PotentialSettings

KILOBAR = 1602.176634
"""One eV/A^3 in kB."""

MOST_OF_BFGS = 200
"""Atoms up to which the Hessian of BFGS costs little beside a potential; it takes half the steps of FIRE.

L-BFGS without a line search takes as few near a minimum, and runs off from prototypes that are far from it.
"""


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a potential says of one crystal: energy in eV/atom, and what still drives it along what may move.

    Attributes
    ----------
    energy
        In eV/atom.
    force
        The largest force on an atom, in eV/A, without its part along coordinates that may not change.
    stress
        The largest principal stress, in kB, without the part along strains that may not be; None of a cell that does
        not move.
    """

    energy: float
    force: float
    stress: float | None

    def is_within(self, settings: PotentialSettings) -> bool:
        """Return whether no more steps are needed."""
        return self.force < settings.force_max_eV_per_A and (
            self.stress is None or self.stress < settings.stress_max_kB
        )


@dataclasses.dataclass(frozen=True)
class Stepped:
    """Where steps of a potential have led one crystal, what it says of that, and how many steps it took."""

    crystal: Crystals
    measured: Measured
    steps: int


class MovingCrystal(Optimizable):
    """A crystal for an optimiser of ASE: its coordinates are displacements and, of a cell that moves, a strain.

    Energy and gradient are those that it was told with `take`, of where it is. Raises ValueError where they are no
    finite numbers, or the steps lead to what is no crystal.
    """

    def __init__(self, motion: Motion, settings: PotentialSettings):
        self.motion, self._settings = motion, settings
        start = motion.start
        self.atoms = Atoms(start.numbers, start.positions, cell=start.cell[0], pbc=True)
        self._results: Results | None = None
        self._displacements = np.zeros_like(start.positions)
        self._strain = np.zeros((3, 3))
        # Along the crystal's own axes: turned, it takes the same steps.
        self._axes = np.linalg.qr(start.cell[0].T)[0]
        # A strain moves atoms about as much as its coordinate says, in crystals of any size.
        self._scale = float(np.cbrt(abs(start.volumes[0]) / len(start.numbers)) * np.sqrt(len(start.numbers)))

    @property
    def crystal(self) -> Crystals:
        """The crystal where it is now."""
        return self.motion.start.replace(self.atoms.positions.copy(), self.atoms.cell.array[None])

    @property
    def _here(self) -> Results:
        assert self._results is not None, 'nothing is known of where the crystal has moved to'
        return self._results

    def take(self, results: Results) -> None:
        """Take what the potential says of it where it is."""
        self._results = results

    def measure(self) -> Measured:
        """Return what the potential says of it."""
        energy = self._here.energy / len(self.atoms)
        forces = self.motion.project_displacements(self._here.forces, self.atoms.cell.array)
        stress = None
        if self.motion.cell_moves:
            stress = float(np.linalg.norm(self.motion.project_strain(self._here.stress), 2)) * KILOBAR
        measured = Measured(energy, float(np.linalg.norm(forces, axis=1).max()), stress)
        if not np.isfinite([energy, measured.force, stress or 0.0]).all():
            raise ValueError(f'energy {energy} eV/atom, largest force {measured.force} eV/A, stress {stress} kB')
        return measured

    def ndofs(self) -> int:
        """Return the number of coordinates."""
        return self._displacements.size + (9 if self.motion.cell_moves else 0)

    def get_x(self) -> NDArray[np.float64]:
        """Return the coordinates."""
        strain = self._scale * self._axes.T @ self._strain @ self._axes
        return np.concatenate([self._displacements.ravel(), strain.ravel()])[: self.ndofs()]

    def set_x(self, x: NDArray[np.float64]) -> None:
        """Move the crystal, to where nothing is known of it."""
        self._results = None
        motion, size = self.motion, self._displacements.size
        self._displacements = motion.project_displacements(x[:size].reshape(-1, 3))
        if motion.cell_moves:
            self._strain = motion.project_strain(self._axes @ x[size:].reshape(3, 3) @ self._axes.T / self._scale)
        cell = motion.cell(self._strain)
        self.atoms.set_cell(cell)
        self.atoms.set_positions(motion.positions(self._displacements, cell))
        if fault := geometry_fault(self.crystal):
            raise ValueError(f'the steps lead to what is no crystal: {fault[1]}')

    def get_gradient(self) -> NDArray[np.float64]:
        """Return the derivatives of the energy by the coordinates."""
        motion, cell = self.motion, self.atoms.cell.array
        stretch = np.linalg.inv(motion.start.cell[0]) @ cell
        parts = [-motion.project_displacements(self._here.forces @ stretch.T).ravel()]
        if motion.cell_moves:
            by_strain = motion.strain_gradient(self._strain, cell, self._here.stress)
            parts.append((self._axes.T @ by_strain @ self._axes).ravel() / self._scale)
        return np.concatenate(parts)

    def get_value(self) -> float:
        """Return the energy in eV."""
        return self._here.energy

    def converged(self, gradient: NDArray[np.float64], fmax: float) -> bool:
        """Return whether forces and stress are within their bounds, whatever those of the coordinates are."""
        return self.measure().is_within(self._settings)

    def iterimages(self) -> Iterator[Atoms]:
        """Yield the crystal."""
        yield self.atoms


def relax_crystal(
    motion: Motion, settings: PotentialSettings, on_step: Callable[[int], None] | None = None
) -> Steps[Stepped]:
    """Relax one crystal in steps of BFGS or FIRE along what may move, and return where they lead.

    Parameters
    ----------
    motion
        The crystal, and what may move in it.
    settings
        Most steps, and the bounds of force and stress.
    on_step
        Is called with the number of each step.

    Yields
    ------
    The crystal, wherever the potential is asked for `Results`.

    Raises
    ------
    ValueError
        Where the numbers of the potential are not finite, or its steps lead to what is no crystal.
    """
    moving = MovingCrystal(motion, settings)
    method: Any = BFGS if len(moving.atoms) <= MOST_OF_BFGS else FIRE
    optimiser = method(moving, logfile=None)
    for step in range(settings.steps + 1):
        if step:
            optimiser.step()
        moving.take((yield moving.atoms))
        if on_step:
            on_step(step)
        measured = moving.measure()
        if measured.is_within(settings):
            break
    return Stepped(moving.crystal, measured, step)


def measure(motion: Motion, crystal: Crystals, settings: PotentialSettings) -> Steps[Measured]:
    """Return what a potential says of a crystal that moves as in `motion`, but lies where it lies; yields it once."""
    moving = MovingCrystal(dataclasses.replace(motion, start=crystal), settings)
    moving.take((yield moving.atoms))
    return moving.measure()
