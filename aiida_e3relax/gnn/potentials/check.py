"""What every potential must pass before it relaxes crystals: derivatives, units and symmetries of a calculator of ASE.

A wrong sign or unit of the stress, or forces that are no derivatives of the energy, lead a relaxation astray in
silence. Here the calculator's numbers are set beside finite differences of its own energy.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.build import bulk, make_supercell
from ase.calculators.calculator import Calculator
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress
from ase.units import GPa
from numpy.typing import NDArray

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.common.messages import describe_error
from aiida_e3relax.common.out_of_memory import is_out_of_memory
from aiida_e3relax.gnn.potentials.base import DTYPES, Potential
from aiida_e3relax.gnn.potentials.evaluation import Batches, Results
from aiida_e3relax.gnn.potentials.registry import load_potential

if TYPE_CHECKING:
    import torch

STEPS = (0.015, 0.03)
"""Of the finite differences of positions, in A: the error falls with the fourth power of a step."""

STRAINS = (0.0025, 0.005)
"""The same of strains."""

RELATIVE = 0.01
"""Part of the largest force, or component of the stress, by which finite differences may differ."""

BOUNDS = {
    # Single precision rounds energies of some tens of eV by 2e-6 eV and positions by 1e-7 A.
    'float32': {'energy': 5e-5, 'forces': 3e-3, 'stress': 3e-5, 'difference_forces': 4e-3, 'difference_stress': 2e-4},
    'float64': {'energy': 1e-7, 'forces': 1e-5, 'stress': 1e-7, 'difference_forces': 1e-4, 'difference_stress': 1e-6},
}
"""Of what symmetries leave alone, and beside `RELATIVE` of finite differences; in eV/atom, eV/A and eV/A^3."""

BETWEEN_PRECISIONS = {'energy': 1e-4, 'forces': 1e-2, 'stress': 3e-4}
"""By how much single precision may differ from double, in the same units."""

REFLECTION = {'energy': 1e-3, 'forces': 2e-2, 'stress': 1e-3}
"""Of mirror images, in the same units: some networks have rotations alone built in, and learn reflections."""

PRECISIONS = 'float32 beside float64'

LEAST_FORCE = 0.05
"""In eV/A; with smaller ones nothing is told."""

SUPERCELL = ((1, 1, 0), (-1, 1, 0), (0, 0, 1))
"""Of two cells, with vectors that are not parallel to those of the cell."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes
    ----------
    check
        What was looked at.
    passed
        Whether that is as it must be.
    found
        The numbers, or what was seen, in words.
    bound
        What was expected.
    """

    check: str
    passed: bool
    found: str
    bound: str = ''


def make_check_crystal(atoms: Atoms | None = None) -> Atoms:
    """Return a crystal compressed, skewed and rattled: nothing is zero by symmetry; by default MgO of four atoms."""
    if atoms is None:
        atoms = make_supercell(bulk('MgO', 'rocksalt', a=4.25), [[1, 0, 0], [0, 1, 0], [0, 0, 2]])
    atoms = atoms.copy()
    atoms.set_constraint()
    strain = np.array([[-0.03, 0.02, 0.0], [0.01, -0.01, 0.03], [-0.02, 0.0, -0.05]])
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    atoms.rattle(0.12, seed=7)
    return atoms


def check_potential(
    name: str, device: torch.device, dtype: str = 'float32', weights: Path | None = None, atoms: Atoms | None = None
) -> tuple[Potential, list[Finding]]:
    """Return a potential of `POTENTIALS` and what comes of every check of it, that of its other precision as well.

    Parameters
    ----------
    name, device, dtype, weights
        As of `load_potential`, which raises InputError or MissingPackageError.
    atoms
        A crystal of elements that it knows, of which a strained and rattled copy is computed; by default MgO.
    """
    atoms = make_check_crystal(atoms)
    potential = load_potential(name, device, dtype, weights)
    findings = check_calculator(potential.calculator, potential.dtype, atoms)
    if findings[0].passed:
        findings.append(_check_precision(potential, device, weights, atoms))
        if potential.batches is not None:
            findings.append(check_batches(potential.calculator, potential.batches, potential.dtype, atoms))
    return potential, findings


def _check_precision(potential: Potential, device: torch.device, weights: Path | None, atoms: Atoms) -> Finding:
    """Return how far it is from itself in the other precision, or that it has no other."""
    (dtype,) = {*DTYPES} - {potential.dtype}
    try:
        other = load_potential(potential.name, device, dtype, weights, in_batches=False)
    except InputError as error:
        return Finding(PRECISIONS, True, f'refused: {error}', 'the same, or an error')
    if other.dtype == potential.dtype:
        return Finding(PRECISIONS, True, f'its weights are for {potential.dtype} alone', 'the same, or one alone')
    single, double = (potential, other) if potential.dtype == DTYPES[0] else (other, potential)
    return compare_precisions(single.calculator, double.calculator, atoms)


def check_calculator(calculator: Calculator, dtype: str = 'float32', atoms: Atoms | None = None) -> list[Finding]:
    """Return what comes of every check of a calculator, in order.

    Parameters
    ----------
    calculator
        Energies in eV, forces in eV/A, stress in eV/A^3.
    dtype
        The precision in which it computes.
    atoms
        A crystal of elements that it knows, with forces of at least `LEAST_FORCE`; by default MgO.
    """
    atoms = (make_check_crystal() if atoms is None else atoms).copy()
    atoms.set_constraint()
    bounds = BOUNDS[dtype]
    try:
        results = _compute(calculator, atoms)
    except Exception as error:
        _raise_out_of_memory(error)
        text = f'{describe_error(error)}; name a crystal of elements that it knows, with its cell'
        return [Finding(f'energy, forces and stress of {atoms.get_chemical_formula()}', False, text, 'numbers')]
    largest = np.abs(results.forces).max()
    findings = [
        Finding(
            f'energy, forces and stress of {atoms.get_chemical_formula()}',
            bool(largest >= LEAST_FORCE),
            f'{results.energy / len(atoms):.4f} eV/atom, up to {largest:.3f} eV/A, {_pressure(results):.2f} GPa',
            f'numbers, forces from {LEAST_FORCE} eV/A on',
        )
    ]
    checks: Sequence[Callable[[Calculator, Atoms, Results, dict[str, float]], Finding]] = (
        _check_forces,
        _check_stress,
        _check_sum,
        _check_rotation,
        _check_reflection,
        _check_translation,
        _check_permutation,
        _check_supercell,
        _check_cell_vectors,
        _check_repetition,
        _check_isolated_atom,
    )
    for check in checks:
        try:
            findings.append(check(calculator, atoms, results, bounds))
        except Exception as error:
            _raise_out_of_memory(error)
            findings.append(Finding(check.__name__.removeprefix('_check_'), False, describe_error(error)))
    return findings


def compare_precisions(single: Calculator, double: Calculator, atoms: Atoms | None = None) -> Finding:
    """Return how far the same potential in single precision is from itself in double precision."""
    atoms = make_check_crystal() if atoms is None else atoms
    return _compare(PRECISIONS, _compute(single, atoms), _compute(double, atoms), BETWEEN_PRECISIONS)


def check_batches(calculator: Calculator, batches: Batches, dtype: str, atoms: Atoms) -> Finding:
    """Return how far crystals in one batch are from what a calculator says of them, the worst of them."""
    left_handed, far = atoms.copy(), atoms.copy()
    left_handed.set_cell(1.02 * atoms.cell.array, scale_atoms=True)
    left_handed.set_cell(-left_handed.cell.array)
    far.set_cell(0.99 * atoms.cell.array, scale_atoms=True)
    far.positions[0] += 20 * far.cell.array[1]
    crystals = [make_supercell(atoms, SUPERCELL), atoms, left_handed, far]
    check, bounds = f'{len(crystals)} crystals in a batch', BOUNDS[dtype]
    try:
        together = batches.evaluate(crystals)
    except Exception as error:
        _raise_out_of_memory(error)
        return Finding(check, False, describe_error(error))
    findings = [
        _compare(check, found, _compute(calculator, crystal), bounds)
        for found, crystal in zip(together, crystals, strict=True)
    ]
    return next((finding for finding in findings if not finding.passed), findings[0])


def _compute(calculator: Calculator, atoms: Atoms) -> Results:
    """Return what a calculator states of `atoms`; raises ValueError where it is not finite or of another shape."""
    atoms = atoms.copy()
    atoms.calc = calculator
    energy = float(atoms.get_potential_energy())
    forces, stress = np.array(atoms.get_forces(), float), np.array(atoms.get_stress(), float)
    if forces.shape != (len(atoms), 3) or stress.shape != (6,):
        raise ValueError(f'forces of shape {forces.shape} and a stress of shape {stress.shape}')
    if not (math.isfinite(energy) and np.isfinite(forces).all() and np.isfinite(stress).all()):
        raise ValueError(f'energy {energy} eV, forces {forces.tolist()}, stress {stress.tolist()}')
    return Results(energy, forces, voigt_6_to_full_3x3_stress(stress))


def _slope(energy: Callable[[float], float], steps: tuple[float, float]) -> float:
    """Return the derivative at 0 of `energy` by central differences of a step and of twice that step."""
    small, large = ((energy(step) - energy(-step)) / (2 * step) for step in steps)
    return (4 * small - large) / 3


def _check_forces(calculator: Calculator, atoms: Atoms, results: Results, bounds: dict[str, float]) -> Finding:
    """Displace all atoms at once in three random directions, and the atom with the largest force along it."""
    generator = np.random.default_rng(1)
    directions = [*generator.normal(size=(3, len(atoms), 3)), np.zeros((len(atoms), 3))]
    pulled = np.linalg.norm(results.forces, axis=1).argmax()
    directions[-1][pulled] = results.forces[pulled]
    stated, found = [], []
    for direction in directions:
        unit = direction / np.linalg.norm(direction)

        def energy(step: float, unit: NDArray = unit) -> float:
            moved = atoms.copy()
            moved.positions += step * unit
            return _energy(calculator, moved)

        stated.append((results.forces * unit).sum())
        found.append(-_slope(energy, STEPS))
    bound = RELATIVE * np.abs(results.forces).max() + bounds['difference_forces']
    return _compare_slopes('forces against the energy', np.array(stated), np.array(found), bound, 'eV/A')


def _check_stress(calculator: Calculator, atoms: Atoms, results: Results, bounds: dict[str, float]) -> Finding:
    """Strain the crystal in each of the six ways; the stress is the slope of the energy over the volume."""
    found = []
    for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):

        def energy(step: float, i: int = i, j: int = j) -> float:
            strain = np.zeros((3, 3))
            strain[i, j] += step / 2
            strain[j, i] += step / 2
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
            return _energy(calculator, strained)

        found.append(_slope(energy, STRAINS) / atoms.get_volume())
    stated = full_3x3_to_voigt_6_stress(results.stress)
    bound = RELATIVE * np.abs(found).max() + bounds['difference_stress']
    return _compare_slopes('stress against the energy', stated, np.array(found), bound, 'eV/A^3')


def _compare_slopes(check: str, stated: NDArray, found: NDArray, bound: float, unit: str) -> Finding:
    """Return whether what is stated are the slopes that were found, and else what they may be in their place."""
    error = np.abs(stated - found).max()
    text = f'{error:.1e} {unit} of {np.abs(found).max():.3g}'
    if error > bound:
        ratio = (stated @ found) / (found @ found)
        text += f'; it states {ratio:.3g} times the slope'
        if np.abs(stated - ratio * found).max() > 0.05 * np.abs(stated).max():
            text += ' on average, and not that in every direction'
        elif math.isclose(abs(ratio), 1 / GPa, rel_tol=0.02):
            text += ': in GPa'
        elif math.isclose(abs(ratio), 10 / GPa, rel_tol=0.02):
            text += ': in kB'
        if ratio < 0:
            text += ', with the wrong sign'
    return Finding(check, bool(error <= bound), text, f'up to {bound:.1e} {unit}')


def _check_sum(calculator: Calculator, atoms: Atoms, results: Results, bounds: dict[str, float]) -> Finding:
    total, bound = np.abs(results.forces.sum(axis=0)).max(), bounds['forces'] * len(atoms)
    return Finding('sum of the forces', bool(total <= bound), f'{total:.1e} eV/A', f'up to {bound:.1e} eV/A')


def _check_rotation(calculator: Calculator, atoms: Atoms, results: Results, bounds: dict[str, float]) -> Finding:
    return _check_turned('rotation', _rotation(), calculator, atoms, results, bounds)


def _check_reflection(calculator: Calculator, atoms: Atoms, results: Results, bounds: dict[str, float]) -> Finding:
    return _check_turned('reflection', -_rotation(), calculator, atoms, results, REFLECTION)


def _rotation() -> NDArray:
    """Return a rotation that no symmetry of a lattice has, (3, 3)."""
    matrix = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    return matrix * np.sign(np.linalg.det(matrix))


def _check_turned(
    check: str, matrix: NDArray, calculator: Calculator, atoms: Atoms, results: Results, bounds: dict[str, float]
) -> Finding:
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ matrix.T, scale_atoms=True)
    expected = Results(results.energy, results.forces @ matrix.T, matrix @ results.stress @ matrix.T)
    return _compare(check, _compute(calculator, turned), expected, bounds)


def _check_translation(calculator: Calculator, atoms: Atoms, results: Results, bounds: dict[str, float]) -> Finding:
    """Move all atoms, and put single ones into other cells."""
    moved = atoms.copy()
    moved.positions += [0.7, -0.4, 1.1]
    moved.wrap()
    moved.positions[0] += atoms.cell.array[1] - 2 * atoms.cell.array[2]
    return _compare('translation', _compute(calculator, moved), results, bounds)


def _check_permutation(calculator: Calculator, atoms: Atoms, results: Results, bounds: dict[str, float]) -> Finding:
    order = np.arange(len(atoms))[::-1]
    expected = dataclasses.replace(results, forces=results.forces[order])
    return _compare('order of the atoms', _compute(calculator, atoms[order]), expected, bounds)


def _check_supercell(calculator: Calculator, atoms: Atoms, results: Results, bounds: dict[str, float]) -> Finding:
    larger = make_supercell(atoms, SUPERCELL)
    copies = len(larger) // len(atoms)
    expected = Results(copies * results.energy, np.tile(results.forces, (copies, 1)), results.stress)
    return _compare(f'supercell of {copies}', _compute(calculator, larger), expected, bounds)


def _check_cell_vectors(calculator: Calculator, atoms: Atoms, results: Results, bounds: dict[str, float]) -> Finding:
    """Choose other vectors of the same lattice, of the other hand."""
    other = atoms.copy()
    other.set_cell(np.array([[0, 1, 0], [1, 1, 0], [0, -1, 1]]) @ atoms.cell.array)
    return _compare('left-handed cell vectors', _compute(calculator, other), results, bounds)


def _check_repetition(calculator: Calculator, atoms: Atoms, results: Results, bounds: dict[str, float]) -> Finding:
    """After other crystals the first must give the same."""
    return _compare('the same crystal again', _compute(calculator, atoms), results, bounds)


def _check_isolated_atom(calculator: Calculator, atoms: Atoms, results: Results, bounds: dict[str, float]) -> Finding:
    """Look at an atom without neighbours: it is refused, or has no force."""
    check, bound = 'an isolated atom', 'an error, or a number and no force'
    atom = Atoms(atoms.get_chemical_symbols()[:1], cell=[25.0, 26.0, 27.0], pbc=True)
    try:
        alone = _compute(calculator, atom)
    except Exception as error:
        _raise_out_of_memory(error)
        return Finding(check, True, f'refused: {describe_error(error)}', bound)
    force = np.abs(alone.forces).max()
    return Finding(check, bool(force <= bounds['forces']), f'{alone.energy:.4f} eV, {force:.1e} eV/A', bound)


def _energy(calculator: Calculator, atoms: Atoms) -> float:
    atoms.calc = calculator
    return float(atoms.get_potential_energy())


def _compare(check: str, found: Results, expected: Results, bounds: dict[str, float]) -> Finding:
    """Return whether two results are the same within bounds."""
    errors = {
        'energy': abs(found.energy - expected.energy) / len(expected.forces),
        'forces': float(np.abs(found.forces - expected.forces).max()),
        'stress': float(np.abs(found.stress - expected.stress).max()),
    }
    units = {'energy': 'eV/atom', 'forces': 'eV/A', 'stress': 'eV/A^3'}
    return Finding(
        check,
        all(errors[name] <= bounds[name] for name in units),
        ', '.join(f'{errors[name]:.1e} {unit}' for name, unit in units.items()),
        'up to ' + ', '.join(f'{bounds[name]:.0e}' for name in units),
    )


def _pressure(results: Results) -> float:
    """Return the pressure in GPa."""
    return -float(np.trace(results.stress)) / 3 / GPa


def _raise_out_of_memory(error: Exception) -> None:
    if is_out_of_memory(error):
        raise error
