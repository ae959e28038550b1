"""Candidates for crystals whose symmetry breaks: several ends of a potential's steps, ranked by its energy.

A network keeps the symmetry of its input, and so do steps of a potential that begin at its prediction. Candidates begin
off that, along random steps that break the symmetry (`break_symmetry`).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray

from aiida_e3relax.common.progress import ProgressLine
from aiida_e3relax.crystals.coordination import nearest_neighbours
from aiida_e3relax.crystals.freedom.breaking import break_symmetry
from aiida_e3relax.crystals.freedom.freedom import Freedom
from aiida_e3relax.crystals.freedom.motion import Motion
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.crystals.symmetry import SpaceGroup
from aiida_e3relax.gnn.prediction.freedom import PredictionFreedom, kinds_of
from aiida_e3relax.gnn.prediction.lockstep import Failure, Steps, Walk
from aiida_e3relax.gnn.prediction.optimisation import Measured, Stepped, relax_crystal
from aiida_e3relax.gnn.prediction.pre_relaxation import CERTAIN, PreRelaxation, describe_left_basin, told
from aiida_e3relax.gnn.prediction.settings import PotentialSettings

DISPLACEMENT, STRAIN = 0.15, 0.05
"""Of the steps that break the symmetry: root mean square in A, and Frobenius norm."""

NEIGHBOURS = 12
"""Distances that tell crystals apart: to the 1st, 2nd, ... 12th neighbour, averaged over the sites of an element."""

SAME_DISTANCES, SAME_ENERGY = 0.01, 1e-3
"""Crystals are the same where these distances differ by less than this part, and energies by less, in eV/atom."""

SMALLEST_CONTACT = 0.6
"""Distance of two atoms over the sum of their covalent radii; nothing sound has a smaller one, as for the guard."""

NEARLY_SYMMETRIC = 0.1
"""In A, how far sites may be off a symmetry that a candidate has found."""


@dataclasses.dataclass(frozen=True, eq=False)
class Candidates:
    """The distinct candidates of one crystal, the lowest energy first.

    Attributes
    ----------
    crystals
        Them, K in number.
    energies
        ``(K,)`` in eV/atom, by the potential.
    unperturbed
        ``(K,)`` which of them is where the steps lead without a broken symmetry.
    """

    crystals: Crystals
    energies: NDArray[np.float64]
    unperturbed: NDArray[np.bool_]


def find_candidates(
    relaxation: PreRelaxation,
    starts: Crystals,
    relaxed: Crystals,
    rows: dict[int, dict[str, Any]],
    free: PredictionFreedom,
    line: ProgressLine,
) -> tuple[Crystals, dict[int, Candidates]]:
    """Return `relaxed` with the candidate of the lowest energy in the place of each crystal, and all candidates.

    A crystal that the potential could not relax has none.

    Parameters
    ----------
    relaxation
        The potential; its settings say from how many perturbed crystals it starts for each.
    starts
        Where the steps to `relaxed` began.
    relaxed
        The unperturbed candidates, which the potential has relaxed.
    rows
        By index what the potential says of these, as `PreRelaxation.relax` returns it. What it says of the lowest
        candidate takes its place, and the rows of all candidates come to it, in their order.
    free
        What may move.
    line
        The progress, in perturbed starts.
    """
    settings, sound = relaxation.settings, {index: row for index, row in rows.items() if 'error' not in row}
    tries = [(index, number) for index in sound for number in range(settings.candidates)]
    ends: dict[int, dict[int, Stepped | Failure]] = {index: {} for index in sound}

    def on_step(index: int, step: int) -> None:
        line.advance(0, f'{relaxed.labels[index]}: step {step}')

    def on_end(walk: Walk[Stepped]) -> None:
        index, number = tries[walk.index]
        sound[index]['wall_time_s'] += walk.seconds
        if walk.outcome is not None:
            ends[index][number] = walk.outcome
        line.advance()

    walks = []
    for place, (index, number) in enumerate(tries):
        rng = np.random.default_rng([settings.seed, number])
        steps = _relax_broken(relaxed.select([index]), free.of(index), settings, rng, partial(on_step, index))
        walks.append(Walk(place, int(relaxed.n_atoms[index]), steps))
    relaxation.run(walks, on_end)
    positions, cell, offsets = relaxed.positions.copy(), relaxed.cell.copy(), relaxed.offsets
    candidates = {}
    for index, row in sound.items():
        found = [end for _, end in sorted(ends[index].items())]
        unperturbed = relaxed.select([index])
        distinct = _distinct(unperturbed, row, [end for end in found if isinstance(end, Stepped)])
        lowest = distinct[0]
        if not lowest.is_unperturbed:
            positions[offsets[index] : offsets[index + 1]] = lowest.crystal.positions
            cell[index] = lowest.crystal.cell[0]
            row.update(_row_of_lowest(row, starts.select([index]), lowest, settings))
        row['candidates'] = [_row(one, settings) for one in distinct]
        failures = [end.message for end in found if isinstance(end, Failure)]
        row['candidates_failed'] = len(failures)
        if failures:
            row['candidates_error'] = failures[0]
        candidates[index] = Candidates(
            Crystals.concatenate([one.crystal for one in distinct]),
            np.array([one.measured.energy for one in distinct]),
            np.array([one.is_unperturbed for one in distinct]),
        )
    return relaxed.replace(positions, cell), candidates


def _relax_broken(
    crystal: Crystals,
    freedom: Freedom,
    settings: PotentialSettings,
    rng: np.random.Generator,
    on_step: Callable[[int], None],
) -> Steps[Stepped]:
    """Return one crystal relaxed from a step that breaks its symmetry.

    Raises ValueError where there is no such step, and where the steps of the potential lead atoms into each other:
    potentials have deep holes where nothing was learnt.

    Where the steps lead to another symmetry, the crystal gets it to the last digit, which VASP asks for, and goes on
    with it: that is taken unless the energy rises.
    """
    kinds = kinds_of(crystal)
    start = break_symmetry(Motion.of(crystal, freedom, kinds, crystal), kinds, DISPLACEMENT, STRAIN, rng)
    if start is None:
        raise ValueError('nothing that may move breaks its symmetry')
    end = yield from relax_crystal(Motion.of(start, freedom, kinds, start), settings, on_step)
    if _has_collapsed(end.crystal, crystal):
        raise ValueError(
            f'the steps lead two atoms to {_closest_contact(end.crystal):.2g} of the sum of their covalent radii, '
            f'expected at least {SMALLEST_CONTACT:g}'
        )
    refined = Motion.of(end.crystal, freedom, kinds, end.crystal, NEARLY_SYMMETRIC)
    if refined.group is None or len(refined.group.rotations) == 1:
        return end
    try:
        last = yield from relax_crystal(
            refined, dataclasses.replace(settings, steps=settings.steps - end.steps, candidates=0)
        )
    except ValueError:  # what has been found stands
        return end
    if last.measured.energy > end.measured.energy + CERTAIN or _has_collapsed(last.crystal, crystal):
        return end
    return Stepped(last.crystal, last.measured, end.steps + last.steps)


def _has_collapsed(crystal: Crystals, before: Crystals) -> bool:
    """Return whether two atoms are nearer than `SMALLEST_CONTACT`, and nearer than any two were before."""
    contact = _closest_contact(crystal)
    return contact < SMALLEST_CONTACT and contact < _closest_contact(before)


def _closest_contact(crystal: Crystals) -> float:
    """Return the smallest distance of two atoms of one crystal over the sum of their covalent radii."""
    numbers, distances = nearest_neighbours(crystal, NEIGHBOURS)
    return float((distances / (covalent_radii[crystal.numbers][:, None] + covalent_radii[numbers])).min())


@dataclasses.dataclass(eq=False)
class _Candidate:
    """A candidate of one crystal, what the potential says of it, and from how many perturbed starts it came."""

    crystal: Crystals
    measured: Measured
    steps: int
    is_unperturbed: bool = False
    starts: int = 0

    @functools.cached_property
    def distances(self) -> NDArray[np.float64]:
        """The mean distances to neighbours that tell it from others, in A."""
        distances = nearest_neighbours(self.crystal, NEIGHBOURS)[1]
        elements = np.unique(self.crystal.numbers)
        return np.stack([distances[self.crystal.numbers == element].mean(axis=0) for element in elements])

    def is_same(self, other: _Candidate) -> bool:
        """Return whether it is the same crystal as another of the same elements, turned, reflected or not."""
        return abs(self.measured.energy - other.measured.energy) < SAME_ENERGY and np.allclose(
            self.distances, other.distances, rtol=SAME_DISTANCES, atol=0
        )


def _distinct(unperturbed: Crystals, row: Mapping[str, Any], ends: Sequence[Stepped]) -> list[_Candidate]:
    """Return the distinct candidates, the lowest energy first.

    The unperturbed one stands for those that are the same, and comes first among those of its energy.
    """
    names = ('energy_prediction_eV_per_atom', 'max_force_prediction_eV_per_A', 'max_stress_prediction_kB')
    distinct = [_Candidate(unperturbed, Measured(*(row[name] for name in names)), row['steps'], is_unperturbed=True)]
    for end in sorted(ends, key=lambda end: end.measured.energy):
        one = _Candidate(end.crystal, end.measured, end.steps)
        known = next((other for other in distinct if one.is_same(other)), None)
        if known is None:
            distinct.append(known := one)
        known.starts += 1
    return sorted(distinct, key=lambda one: one.measured.energy - one.is_unperturbed * CERTAIN)


def _row(candidate: _Candidate, settings: PotentialSettings) -> dict[str, Any]:
    """Return what the report tells of a candidate."""
    crystal, measured = candidate.crystal, candidate.measured
    try:
        space_group = SpaceGroup.of(crystal, kinds_of(crystal)).name
    except ValueError:  # spglib finds none
        space_group = None
    return {
        'energy_eV_per_atom': measured.energy,
        'unperturbed': candidate.is_unperturbed,
        'perturbed_starts': candidate.starts,
        'space_group': space_group,
        'volume_A3': float(abs(crystal.volumes[0])),
        'max_force_eV_per_A': measured.force,
        'max_stress_kB': measured.stress,
        'converged': measured.is_within(settings),
        'steps': candidate.steps,
    }


def _row_of_lowest(
    row: Mapping[str, Any], start: Crystals, lowest: _Candidate, settings: PotentialSettings
) -> dict[str, Any]:
    """Return what changes in the row of a crystal when another candidate takes the place of the unperturbed one."""
    measured, names = lowest.measured, {'input': 'the input', 'network': 'the start'}
    energies = {words: row[key] for name, words in names.items() if (key := f'energy_{name}_eV_per_atom') in row}
    basin = describe_left_basin(start, lowest.crystal, energies, measured)
    return told(measured, 'prediction') | {
        'max_stress_prediction_kB': measured.stress,
        'improved': measured.energy < list(energies.values())[-1],
        'converged': measured.is_within(settings),
        'steps': lowest.steps,
        'left_basin': bool(basin),
        'basin': basin,
    }
