"""RMM-DIIS where its steps can be told: in a harmonic crystal."""

from types import SimpleNamespace

import numpy as np
import pytest

from aiida_e3relax.standin.optimisers import rmm_diis

FREEDOM = SimpleNamespace(move=lambda place, step: place + step)


def walk(stiffness: np.ndarray, start: np.ndarray, n_steps: int, potim: float = 0.5) -> list[np.ndarray]:
    """Return the forces, in eV/A, of so many steps in a potential of such spring constants, in eV/A^2."""
    optimiser = rmm_diis(start, FREEDOM, SimpleNamespace(potim=potim))
    place, forces = next(optimiser), []
    for _ in range(n_steps):
        forces.append(-stiffness * place)
        place = optimiser.send(forces[-1])
    return forces


def test_the_first_step_is_along_the_force_as_long_as_potim_says():
    first, second = walk(np.full((1, 3), 4.0), np.array([[0.1, 0.0, 0.0]]), 2, potim=0.4)
    np.testing.assert_allclose(second, first * (1 - 4.0 * 0.04))


def test_as_many_steps_as_spring_constants_and_two_more_lead_to_the_minimum():
    stiffness = np.repeat([[1.0], [3.0], [10.0]], 3, axis=1)
    start = 0.1 * np.random.default_rng(0).normal(size=(3, 3))
    norms = [np.linalg.norm(force) for force in walk(stiffness, start, 6)]
    assert norms[5] < 1e-9 * norms[0]


@pytest.mark.parametrize('potim', [0.1, 0.5, 2.0])
def test_stiff_springs_that_a_step_along_the_force_overshoots(potim):
    stiffness = np.repeat([[2.0], [15.0], [60.0]], 3, axis=1)
    forces = walk(stiffness, np.full((3, 3), 0.02), 12, potim)
    assert np.abs(forces[-1]).max() < 1e-3
