"""Structures and trajectories as compact arrays in the page, whose scripts decode them when one is shown."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from aiida_e3relax.campaign.results.trajectories import Trajectory
from aiida_e3relax.crystals.structures import Crystals


def encode(values: ArrayLike, dtype: str) -> str:
    """Return an array as base64 of its bytes, little-endian, first index slowest."""
    return base64.b64encode(np.ascontiguousarray(values, np.dtype(dtype).newbyteorder('<')).tobytes()).decode()


def pack_crystals(crystals: Crystals) -> dict[str, Any]:
    """Return crystals in single precision, which is more than a picture shows."""
    return {
        'labels': crystals.labels.tolist(),
        'nAtoms': encode(crystals.n_atoms, 'u4'),
        'numbers': encode(crystals.numbers, 'u1'),
        'positions': encode(crystals.positions, 'f4'),
        'cells': encode(crystals.cell, 'f4'),
    }


def pack_trajectories(trajectories: Mapping[str, Mapping[str, Trajectory]]) -> dict[str, Any]:
    """Return the trajectories of each leg, by leg; the energies in meV/atom above the lowest of either leg.

    Parameters
    ----------
    trajectories
        By label and leg.
    """
    lowest = {
        label: min(trajectory.energies.min() for trajectory in legs.values())
        for label, legs in trajectories.items()
        if legs
    }
    packed = {}
    for leg in ('raw', 'predicted'):
        of_leg = {label: legs[leg] for label, legs in trajectories.items() if leg in legs}
        above = [1e3 * (trajectory.energies - lowest[label]) for label, trajectory in of_leg.items()]
        forces = [trajectory.max_forces for trajectory in of_leg.values()]
        packed[leg] = {
            'labels': list(of_leg),
            'nSteps': encode([len(energies) for energies in above], 'u4'),
            'energies': encode(np.concatenate([np.zeros(0), *above]), 'f4'),
            'maxForces': encode(np.concatenate([np.zeros(0), *forces]), 'f4'),
            'restarts': {
                label: trajectory.starts[1:] for label, trajectory in of_leg.items() if len(trajectory.starts) > 1
            },
        }
    return packed
