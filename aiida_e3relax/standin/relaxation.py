"""The run: electronic iterations within ionic steps until the forces, NSW or a person end it."""

import math
import time
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import numpy as np

from aiida_e3relax.standin.degrees_of_freedom import DegreesOfFreedom
from aiida_e3relax.standin.engines import Energies, Engine, Response
from aiida_e3relax.standin.errors import StandInError
from aiida_e3relax.standin.geometry import FractionalGeometry, find_geometry_fault
from aiida_e3relax.standin.inputs import Inputs
from aiida_e3relax.standin.optimisers import OPTIMISERS
from aiida_e3relax.standin.stopcar import Stop, requested_stop


class Ending(Enum):
    """Why a run ended."""

    STATIC = 'the one static step was computed'
    CONVERGED = 'reached required accuracy - stopping structural energy minimisation'
    NSW_REACHED = 'NSW ionic steps were computed'
    STOPPED = 'soft stop encountered!  aborting job ...'
    ABORTED = 'hard stop encountered!  aborting job ...'


@dataclass(frozen=True)
class IonicStep:
    """One geometry that was computed.

    Parameters
    ----------
    number
        Counted from 1.
    geometry
        The geometry.
    energies
        After each electronic iteration; the last ones count.
    response
        Forces and stress there.
    energy_change
        Free energy minus that of the previous ionic step (of the first: the energy itself), eV.
    seconds
        Wall time.
    """

    number: int
    geometry: FractionalGeometry
    energies: tuple[Energies, ...]
    response: Response
    energy_change: float
    seconds: float


class Reporter(Protocol):
    """Receives the steps of the run while it goes on."""

    def electronic_step(self, ionic: int, number: int, energies: Energies, previous: Energies | None) -> None:
        """Take the energies of an electronic iteration and of the one before it in this ionic step."""
        ...

    def ionic_step(self, step: IonicStep) -> None:
        """Take a finished ionic step."""
        ...


def run_ionic_steps(inputs: Inputs, freedom: DegreesOfFreedom, engine: Engine, reporter: Reporter) -> Ending:
    """Compute the static step or the relaxation that the settings ask for.

    The relaxation ends when EDIFFG is met (negative: the residual of `DegreesOfFreedom`; positive: the change of the
    energy plus PSTRESS times volume from one ionic step to the next), at NSW steps, or by STOPCAR.
    """
    settings = inputs.settings
    start = inputs.poscar.geometry
    steps = _Steps(inputs, engine, reporter)
    if settings.static:
        return Ending.ABORTED if steps.compute(start) is Stop.ELECTRONIC else Ending.STATIC

    optimiser = OPTIMISERS[settings.ibrion](start, freedom, settings)
    geometry = next(optimiser)
    for _ in range(settings.nsw):
        stop = steps.compute(geometry)
        if stop is not None:
            return Ending.ABORTED if stop is Stop.ELECTRONIC else Ending.STOPPED
        response = steps.done[-1].response
        force = freedom.force(geometry, response.forces, response.stress)
        if _converged(steps.done, force, freedom, settings.ediffg):
            return Ending.CONVERGED
        geometry = optimiser.send(force)
    return Ending.NSW_REACHED


class _Steps:
    """Computes ionic steps one after the other and keeps them."""

    def __init__(self, inputs: Inputs, engine: Engine, reporter: Reporter):
        self._folder, self._engine, self._reporter = inputs.folder, engine, reporter
        self.done: list[IonicStep] = []

    def compute(self, geometry: FractionalGeometry) -> Stop | None:
        """Compute the next step and return what a STOPCAR asks for after it.

        Raises StandInError for a geometry that no engine can take, and where the engine finds no finite numbers.
        """
        number = len(self.done) + 1
        if fault := find_geometry_fault(geometry):
            raise StandInError(f'ionic step {number}: {fault}; start from a crystal closer to its relaxed one')
        begin = time.monotonic()
        history: list[Energies] = []
        for count, energies in enumerate(self._engine.iterate(geometry), start=1):
            self._reporter.electronic_step(number, count, energies, history[-1] if history else None)
            history.append(energies)
            if requested_stop(self._folder) is Stop.ELECTRONIC:
                break
        response = self._engine.response()
        numbers = (history[-1].free, response.forces.sum(), response.stress.sum())
        if not all(map(math.isfinite, numbers)):
            raise StandInError(
                f'ionic step {number}: engine {self._engine.name} found energies, forces or a stress that are not '
                'finite; move atoms apart that are in one place'
            )
        change = history[-1].free - (self.done[-1].energies[-1].free if self.done else 0.0)
        step = IonicStep(number, geometry, tuple(history), response, change, time.monotonic() - begin)
        self.done.append(step)
        self._reporter.ionic_step(step)
        return requested_stop(self._folder)


def _converged(steps: list[IonicStep], force: np.ndarray, freedom: DegreesOfFreedom, ediffg: float) -> bool:
    if ediffg < 0:
        return freedom.residual(force) < -ediffg
    if len(steps) < 2:
        return False
    before, now = (freedom.enthalpy(step.energies[-1].free, step.geometry) for step in steps[-2:])
    return abs(now - before) < ediffg
