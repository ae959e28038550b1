"""What a potential says of crystals: of one by a calculator of ASE, of several at once by torch-sim or its package."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

TORCH_SIM = 'torch-sim-atomistic'


@dataclasses.dataclass(frozen=True, eq=False)
class Results:
    """Energy in eV, forces ``(N, 3)`` in eV/A and stress ``(3, 3)`` in eV/A^3, not a number where there is none."""

    energy: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64]

    @property
    def is_finite(self) -> bool:
        """Whether all of it are finite numbers."""
        return self.has_energy_and_forces and bool(np.isfinite(self.stress).all())

    @property
    def has_energy_and_forces(self) -> bool:
        """Whether energy and forces are finite numbers; some potentials know no stress."""
        return bool(np.isfinite(self.energy) and np.isfinite(self.forces).all())


Evaluate = Callable[[Sequence[Atoms]], list[Results]]
"""Computes crystals together; each has the results that it has alone, within the rounding of the potential."""


@dataclasses.dataclass(frozen=True, eq=False)
class Batches:
    """What computes several crystals at once, and its name and version."""

    evaluate: Evaluate
    by: str


def evaluate_alone(calculator: Any, atoms: Atoms) -> Results:
    """Return what a calculator of ASE says of one crystal; raises what it raises."""
    atoms.calc = calculator
    energy, forces = float(atoms.get_potential_energy()), np.array(atoms.get_forces(), dtype=np.float64)
    if 'stress' not in calculator.implemented_properties:
        return Results(energy, forces, np.full((3, 3), np.nan))
    return Results(energy, forces, np.array(atoms.get_stress(voigt=False), dtype=np.float64))


def batches_of_torch_sim(model: Any) -> Batches:
    """Return what computes several crystals by a model of torch-sim (Cohen et al., arXiv 2508.06628)."""
    import torch_sim

    def evaluate(crystals: Sequence[Atoms]) -> list[Results]:
        near = [atoms.copy() for atoms in crystals]
        for atoms in near:
            atoms.wrap()  # far from the origin single precision rounds more
        found = model(torch_sim.io.atoms_to_state(near, model.device, model.dtype))
        energies, forces, stresses = (
            found[name].detach().cpu().numpy().astype(np.float64) for name in ('energy', 'forces', 'stress')
        )
        apart = np.split(forces, np.cumsum([len(atoms) for atoms in near])[:-1])
        return [Results(float(energy), *rest) for energy, *rest in zip(energies, apart, stresses, strict=True)]

    return Batches(evaluate, f'torch-sim {version(TORCH_SIM)}')
