"""A second opinion on predictions by an interatomic potential, and a few relaxation steps with it."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.constraints import FixSymmetry
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE

from aiida_e3relax.common.out_of_memory import is_out_of_memory
from aiida_e3relax.common.progress import progress
from aiida_e3relax.crystals.files.errors import explain
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.gnn.potentials.base import Potential

CONVERGED = 0.02
"""Largest force in eV/A below which no more steps are taken."""

SYMMETRY_TOLERANCE = 1e-3
"""In A, of the symmetry that the steps keep: single precision would hide it from VASP, which then takes longer."""

ROUNDING = 1e-6
"""In A; by less a vacuum vector does not lean over."""

VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
"""The order of the components of a strain."""


@dataclasses.dataclass(frozen=True)
class SecondOpinion:
    """A potential that computes crystals before and after a prediction, and may improve the prediction.

    Attributes
    ----------
    potential
        The potential.
    steps
        Steps of FIRE that it takes from the prediction, the cell included; lattice vectors in whose direction the
        crystal is not periodic, a vacuum, stay. Where its energy has not fallen the prediction stays as it was.
    """

    potential: Potential
    steps: int = 0

    def facts(self) -> dict[str, Any]:
        """Return its entry in the report of a run."""
        potential = self.potential
        return {'potential': potential.name, 'version': potential.version, 'weights': potential.weights} | {
            'steps': self.steps
        }

    def consult(
        self, given: Crystals, predicted: Crystals, indices: Sequence[int]
    ) -> tuple[Crystals, dict[int, dict[str, Any]]]:
        """Return `predicted` with improvements of the crystals at `indices`, and the opinion on each of them.

        An opinion has energy (eV/atom) and largest force (eV/A) of the `input`, of the network's prediction
        (`network`), and of what is returned (`prediction`), and whether that is `improved`; or `error` alone, of a
        crystal that the potential cannot compute, which stays as it was.
        """
        positions, cell = predicted.positions.copy(), predicted.cell.copy()
        offsets, opinions = predicted.offsets, {}
        for index in progress(indices, f'second opinion of {self.potential.name}'):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter('ignore')  # of CHGNet at every call, and of logarithms wrong by 1e-13
                    opinions[index], atoms = self._judge(_atoms(given, index), _atoms(predicted, index))
            except Exception as error:  # whatever the potential raises, the network's prediction stands
                message = explain(error)
                opinions[index] = {'error': f'out of memory: {message}' if is_out_of_memory(error) else message}
                continue
            if opinions[index]['improved']:
                positions[offsets[index] : offsets[index + 1]] = atoms.positions
                cell[index] = atoms.cell.array
        return predicted.replace(positions, cell), opinions

    def _judge(self, given: Atoms, predicted: Atoms) -> tuple[dict[str, Any], Atoms]:
        """Return the opinion on a prediction, and the crystal that the steps lead to."""
        opinion = self._look(given, 'input') | self._look(predicted, 'network')
        stepped = self._step(predicted) if self.steps else predicted
        after = self._look(stepped, 'prediction')
        improved = after['energy_prediction_eV_per_atom'] < opinion['energy_network_eV_per_atom']
        if not improved:
            after = self._look(predicted, 'prediction')
        return opinion | after | {'improved': improved}, stepped

    def _look(self, atoms: Atoms, name: str) -> dict[str, float]:
        """Return energy and largest force under the keys of `name`; raises ValueError where they are not finite."""
        atoms.calc = self.potential.calculator
        energy = float(atoms.get_potential_energy()) / len(atoms)
        force = float(np.linalg.norm(atoms.get_forces(apply_constraint=False), axis=1).max())
        if not np.isfinite([energy, force]).all():
            raise ValueError(f'energy {energy} eV/atom and largest force {force} eV/A of the {name}')
        return {f'energy_{name}_eV_per_atom': energy, f'max_force_{name}_eV_per_A': force}

    def _step(self, start: Atoms) -> Atoms:
        """Return where up to `steps` steps from `start` lead."""
        atoms, vacuum = start.copy(), ~start.info['periodic']
        atoms.calc = self.potential.calculator
        atoms.set_constraint(FixSymmetry(atoms, symprec=SYMMETRY_TOLERANCE))
        held = (np.abs(start.cell.array[vacuum]) > ROUNDING).any(axis=0)
        free = [not (held[i] or held[j]) for i, j in VOIGT]
        FIRE(FrechetCellFilter(atoms, mask=free), logfile=None).run(fmax=CONVERGED, steps=self.steps)
        atoms.set_constraint()
        cell = np.where(vacuum[:, None], start.cell.array, atoms.cell.array)
        atoms.set_cell(cell, scale_atoms=True)  # FixSymmetry has put the cell right within its tolerance
        return atoms


def _atoms(crystals: Crystals, index: int) -> Atoms:
    """Return one crystal as ASE has it, periodic in all directions as for the network."""
    sites = slice(crystals.offsets[index], crystals.offsets[index + 1])
    return Atoms(
        crystals.numbers[sites],
        crystals.positions[sites],
        cell=crystals.cell[index],
        pbc=True,
        info={'periodic': crystals.pbc[index]},
    )
