"""The numerical noise of relaxations: two relaxations of one crystal differ by that much, so less is shown as zero."""

from __future__ import annotations

import pandas as pd

ENERGY = 0.1
"""In meV/atom."""
LENGTH = 1e-3
"""In A."""
NOISE = {
    'start_energy_error_meV_per_atom': ENERGY,
    'start_coordinate_mae_A': LENGTH,
    'start_cell_shape_deviation_A2': 10 * LENGTH,
    'start_volume_error_A3': 10 * LENGTH,
}
"""By measure. A lattice vector of 5 A that is off by `LENGTH` changes the metric tensor by 0.01 A^2."""


def without_noise(values: pd.Series, noise: float) -> pd.Series:
    """Return values in which those within `noise` are zero."""
    return values.mask(values.abs() < noise, 0.0)


def format_energy(value: float, digits: int = 2) -> str:
    """Return an energy in meV/atom that is not negative as text of so many digits, or that it is below the noise."""
    return f'< {ENERGY}' if value < ENERGY else f'{value:.{digits}g}'
