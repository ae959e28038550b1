"""The optimisers: RMM-DIIS, conjugate gradients and damped dynamics, as coroutines.

Each yields the geometry it wants and is sent the force there (see `DegreesOfFreedom`). Step lengths follow POTIM: a
first step is 0.1 * POTIM A^2/eV times the force, and no atom ever moves by more than 0.3 A in one step.
"""

from collections.abc import Callable, Generator

import numpy as np

from aiida_e3relax.standin.degrees_of_freedom import DegreesOfFreedom
from aiida_e3relax.standin.geometry import FractionalGeometry
from aiida_e3relax.standin.settings import Settings

Optimiser = Generator[FractionalGeometry, np.ndarray, None]

_LONGEST_STEP = 0.3  # A
_STEP_PER_POTIM = 0.1  # A^2/eV
_TINY = 1e-30
_KEPT_GEOMETRIES = 10
_LEAST_DIFFERENCE = 1e-4
"""Of the largest one, of the singular values of differences of forces."""


def conjugate_gradients(start: FractionalGeometry, freedom: DegreesOfFreedom, settings: Settings) -> Optimiser:
    """Minimise along conjugate directions (IBRION = 2), with a trial and a corrector step each.

    The corrector goes to where the force along the direction vanishes, taken as linear between start and trial
    (Polak and Ribiere's formula for the next direction). The trial of the next direction is as long as this
    corrector was.
    """
    trial = _STEP_PER_POTIM * settings.potim
    geometry, force = start, (yield start)
    direction = force
    while True:
        longest = _LONGEST_STEP / _longest_row(direction)
        length = min(trial, longest / 3)
        slope = float((force * direction).sum())
        trial_slope = float(((yield freedom.move(geometry, length * direction)) * direction).sum())
        minimum = length * slope / (slope - trial_slope) if slope > trial_slope else 4 * length
        minimum = min(max(minimum, 0.1 * length), 8 * length, longest)
        trial = min(max(minimum, 0.02 * _STEP_PER_POTIM), 10 * _STEP_PER_POTIM)
        geometry, previous = freedom.move(geometry, minimum * direction), force
        force = yield geometry
        beta = max(0.0, float((force * (force - previous)).sum()) / max(float((previous**2).sum()), _TINY))
        direction = force + beta * direction
        if (direction * force).sum() <= 0:
            direction = force


def rmm_diis(start: FractionalGeometry, freedom: DegreesOfFreedom, settings: Settings) -> Optimiser:
    """Go from where the forces of the last geometries combine to the smallest one along that force (IBRION = 1).

    Direct inversion in the iterative subspace: P. Pulay, Chem. Phys. Lett. 73, 393 (1980); of geometries, P. Csaszar
    and P. Pulay, J. Mol. Struct. 114, 31 (1984). There is no line search and no trial step. Where the step would go
    against the force, the oldest geometries are forgotten.
    """
    geometry, force = start, (yield start)
    place = np.zeros_like(force)
    places, forces = [place], [force]
    while True:
        step = _diis_step(places, forces, _STEP_PER_POTIM * settings.potim)
        while len(forces) > 1 and (step * force).sum() <= 0:
            del places[0], forces[0]
            step = _diis_step(places, forces, _STEP_PER_POTIM * settings.potim)
        step = _shortened(step)
        geometry, place = freedom.move(geometry, step), place + step
        force = yield geometry
        places, forces = [*places, place][-_KEPT_GEOMETRIES:], [*forces, force][-_KEPT_GEOMETRIES:]


def _diis_step(places: list[np.ndarray], forces: list[np.ndarray], length: float) -> np.ndarray:
    """Return the step from the last of `places` to their combination with the smallest force, and on along that.

    The weights of the combination have the sum 1; directions in which the forces hardly differ are left out.
    """
    from_last = [np.array([one - values[-1] for one in values[:-1]]) for values in (places, forces)]
    place, force = np.zeros_like(places[-1]), forces[-1]
    if len(forces) > 1:
        differences = from_last[1].reshape(len(forces) - 1, -1)
        weights = np.linalg.lstsq(differences.T, -force.ravel(), rcond=_LEAST_DIFFERENCE)[0]
        place = np.tensordot(weights, from_last[0], axes=1)
        force = force + np.tensordot(weights, from_last[1], axes=1)
    return place + length * force


def damped_dynamics(start: FractionalGeometry, freedom: DegreesOfFreedom, settings: Settings) -> Optimiser:
    """Move with friction (IBRION = 3): SMASS is the damping factor; without it velocities are quenched.

    Quenched means that only the part of the velocity along the force is kept, and none when it points uphill.
    """
    geometry, force = start, (yield start)
    velocity = np.zeros_like(force)
    twice_alpha = _STEP_PER_POTIM * settings.potim
    while True:
        if settings.smass is not None:
            velocity = ((1 - settings.smass / 2) * velocity + twice_alpha * force) / (1 + settings.smass / 2)
        else:
            along = max(0.0, float((velocity * force).sum()) / max(float((force**2).sum()), _TINY))
            velocity = (along + twice_alpha) * force
        velocity = _shortened(velocity)
        geometry = freedom.move(geometry, velocity)
        force = yield geometry


def _shortened(step: np.ndarray) -> np.ndarray:
    return step * min(1.0, _LONGEST_STEP / _longest_row(step))


def _longest_row(step: np.ndarray) -> float:
    return max(float(np.linalg.norm(step, axis=1).max()), _TINY)


OPTIMISERS: dict[int, Callable[[FractionalGeometry, DegreesOfFreedom, Settings], Optimiser]] = {
    1: rmm_diis,
    2: conjugate_gradients,
    3: damped_dynamics,
}
"""By value of IBRION."""
