"""Relaxation by an interatomic potential before VASP: of a network's predictions, or of the crystals as they came."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from ase.data import chemical_symbols

from aiida_e3relax.common.progress import ProgressLine
from aiida_e3relax.crystals.coordination import changed_shells
from aiida_e3relax.crystals.freedom.freedom import Freedom
from aiida_e3relax.crystals.freedom.motion import Motion
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.crystals.validation import CrystalFault
from aiida_e3relax.gnn.potentials.base import Potential
from aiida_e3relax.gnn.prediction.freedom import PredictionFreedom, kinds_of
from aiida_e3relax.gnn.prediction.lockstep import Failure, Lockstep, NotComputedError, Steps, Walk
from aiida_e3relax.gnn.prediction.optimisation import Measured, Stepped, measure, relax_crystal
from aiida_e3relax.gnn.prediction.settings import PotentialSettings

T = TypeVar('T')

MOST_SITES = 3
"""Sites with another shell of neighbours that a reason names."""

CERTAIN = 1e-4
"""In eV/atom; single precision has no smaller rise of an energy."""


@dataclasses.dataclass(frozen=True)
class PreRelaxation:
    """A potential that relaxes crystals, or, with no steps, says what it thinks of them.

    Attributes
    ----------
    potential
        The potential.
    settings
        Where it begins, and when it stops.
    is_opinion
        Whether the report tells of it in the older form, under `second_opinion`.
    """

    potential: Potential
    settings: PotentialSettings
    is_opinion: bool = False

    @property
    def name(self) -> str:
        """The name of the potential."""
        return self.potential.name

    @property
    def key(self) -> str:
        """Its key in the report, in the rows of structures, and in the timings."""
        return 'second_opinion' if self.is_opinion else 'potential'

    def facts(self) -> dict[str, Any]:
        """Return its entry in the report of a run."""
        settings, facts = self.settings, dict(self.potential.facts())
        if self.is_opinion:
            return {name: facts[name] for name in ('potential', 'version', 'weights')} | {'steps': settings.steps}
        names = ('start', 'steps', 'force_max_eV_per_A', 'stress_max_kB')
        of_candidates = ('candidates', 'seed') if settings.candidates else ()
        return facts | {name: getattr(settings, name) for name in (*names, *of_candidates)}

    def relax(
        self,
        given: Crystals,
        starts: Crystals,
        indices: Sequence[int],
        free: PredictionFreedom,
        line: ProgressLine,
    ) -> tuple[Crystals, dict[int, dict[str, Any]], dict[int, CrystalFault]]:
        """Return `starts` with the crystals at `indices` relaxed, what the potential says of each, and its failures.

        Parameters
        ----------
        given
            The input of the run.
        starts
            Where the steps begin: predictions of a network, or the input again.
        indices
            The crystals that are relaxed.
        free
            What may move in them.
        line
            The progress, in crystals.

        Returns
        -------
        The crystals: one that the potential cannot compute, and by `only_if_lower` one whose energy has not fallen,
        stays where it was. By index the rows of the report, for what failed with no more than `error` and the time, and
        the faults of that.
        """
        positions, cell, offsets = starts.positions.copy(), starts.cell.copy(), starts.offsets
        rows: dict[int, dict[str, Any]] = {}
        failures: dict[int, CrystalFault] = {}

        def on_step(index: int, step: int) -> None:
            line.advance(0, f'{given.labels[index]}: step {step}')

        def on_end(walk: Walk[tuple[Crystals, dict[str, Any]]]) -> None:
            index = walk.index
            if isinstance(walk.outcome, Failure):
                rows[index], failures[index] = self._describe_failure(walk.outcome)
            elif walk.outcome is not None:
                relaxed, rows[index] = walk.outcome
                positions[offsets[index] : offsets[index + 1]], cell[index] = relaxed.positions, relaxed.cell[0]
                if walk.alone:
                    rows[index]['computed_alone'] = walk.alone
            rows[index]['wall_time_s'] = walk.seconds
            line.advance()

        walks = [
            Walk(
                index,
                int(given.n_atoms[index]),
                self._relax_one(given, starts, index, free.of(index), functools.partial(on_step, index)),
            )
            for index in indices
        ]
        self.run(walks, on_end)
        return starts.replace(positions, cell), rows, failures

    def run(self, walks: Sequence[Walk[T]], on_end: Callable[[Walk[T]], None]) -> None:
        """Take all `walks` to their ends by the potential, as `Lockstep.run`."""
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of CHGNet at every call
            self._lockstep.run(walks, on_end)

    @functools.cached_property
    def _lockstep(self) -> Lockstep:
        """What steps the crystals; it remembers how many fit into memory."""
        return Lockstep(self.potential)

    def _describe_failure(self, failure: Failure) -> tuple[dict[str, Any], CrystalFault]:
        """Return the row and the fault of a crystal that the potential could not relax."""
        name, message = self.potential.name, failure.message
        if failure.out_of_memory:
            return {'error': f'out of memory: {message}'}, ('out_of_memory', f'{name}: {message}')
        return {'error': message}, ('potential_failed', f'{name} cannot relax it: {message}')

    def _relax_one(
        self, given: Crystals, starts: Crystals, index: int, freedom: Freedom, on_step: Callable[[int], None]
    ) -> Steps[tuple[Crystals, dict[str, Any]]]:
        """Return the crystal at `index` relaxed, and its row of the report."""
        settings, given, start = self.settings, given.select([index]), starts.select([index])
        kinds = kinds_of(given)
        motion = Motion.of(start, freedom, kinds, given)
        before = yield from measure(motion, start, settings)
        end = Stepped(start, before, 0)
        if settings.steps:
            end = yield from relax_crystal(motion, settings, on_step)
        improved = end.measured.energy < before.energy
        relaxed, after = end.crystal, end.measured
        if not improved and settings.only_if_lower:
            relaxed, after = start, before
        row, energies = told(before, 'input'), {'the input': before.energy}
        if settings.start == 'network':
            row = yield from _tell_of_input(given, freedom, settings)
            energies = {'the input': row['energy_input_eV_per_atom'], 'the start': before.energy}
            row |= told(before, 'network')
        row |= told(after, 'prediction')
        if self.is_opinion:
            return relaxed, row | {'improved': improved}
        basin = describe_left_basin(start, relaxed, energies, after)
        return relaxed, row | {
            'max_stress_prediction_kB': after.stress,
            'improved': improved,
            'converged': after.is_within(settings),
            'steps': end.steps,
            'left_basin': bool(basin),
            'basin': basin,
        }


def _tell_of_input(given: Crystals, freedom: Freedom, settings: PotentialSettings) -> Steps[dict[str, Any]]:
    """Return what a row tells of one crystal before the network; of one that cannot be computed why."""
    try:
        raw = yield from measure(Motion.of(given, freedom, kinds_of(given), given), given, settings)
    except (NotComputedError, ValueError) as error:  # it may be why the network predicts: overlaps, lonely atoms
        failure = error.failure if isinstance(error, NotComputedError) else Failure.of(error)
        return dict.fromkeys(told_keys('input')) | {'input_error': failure.message}
    return told(raw, 'input')


def describe_left_basin(
    start: Crystals, end: Crystals, energies: Mapping[str, float | None], after: Measured
) -> list[str]:
    """Return why one crystal is not in the basin any more that it started in, each reason in words; empty if it is.

    A site has other neighbours (`changed_shells`), or the energy lies above one of the `energies`, in eV/atom, by what
    they are the energy of; None is of what could not be computed.
    """
    changed = changed_shells(start, end)
    reasons = [
        f'{chemical_symbols[start.numbers[site]]} {site} had {_in_words(old)} around it, now {_in_words(new)}'
        for site, (old, new) in list(changed.items())[:MOST_SITES]
    ]
    if len(changed) > MOST_SITES:
        reasons.append(f'{len(changed) - MOST_SITES} more have other neighbours')
    for name, energy in energies.items():
        if energy is not None and (rise := after.energy - energy) > CERTAIN:
            reasons.append(f'the energy lies {rise:.4f} eV/atom above that of {name}')
    return reasons


def told(measured: Measured, name: str) -> dict[str, float]:
    """Return the keys of the report, and their values, for what a potential says of a geometry by its `name`."""
    return dict(zip(told_keys(name), (measured.energy, measured.force), strict=True))


def told_keys(name: str) -> tuple[str, str]:
    """Return the keys of the report for energy and force of a geometry by its `name`."""
    return f'energy_{name}_eV_per_atom', f'max_force_{name}_eV_per_A'


def _in_words(composition: dict[int, int]) -> str:
    return ' and '.join(f'{count} {chemical_symbols[number]}' for number, count in composition.items())
