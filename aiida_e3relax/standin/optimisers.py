"""The optimisers: conjugate gradients, quasi-Newton and damped dynamics, as coroutines.

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


def quasi_newton(start: FractionalGeometry, freedom: DegreesOfFreedom, settings: Settings) -> Optimiser:
    """Follow the BFGS estimate of the Hessian (IBRION = 1)."""
    geometry = start
    force = yield geometry
    inverse = _STEP_PER_POTIM * settings.potim * np.eye(force.size)
    while True:
        step = _shortened((inverse @ force.ravel()).reshape(force.shape))
        geometry = freedom.move(geometry, step)
        new_force = yield geometry
        s, y = step.ravel(), (force - new_force).ravel()
        curvature = float(s @ y)
        if curvature > 1e-10 * float(s @ s):
            left = np.eye(len(s)) - np.outer(s, y) / curvature
            inverse = left @ inverse @ left.T + np.outer(s, s) / curvature
        force = new_force


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
    1: quasi_newton,
    2: conjugate_gradients,
    3: damped_dynamics,
}
"""By value of IBRION."""
