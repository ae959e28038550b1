"""Which relaxations of a teacher are kept as pairs: those that converged, and ended at what is a crystal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.crystals.geometry import closest_contact, displacements
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.crystals.validation import geometry_fault

VOLUME_CHANGE = 3.0
"""The largest factor by which a relaxation may change the volume, either way: donors' cells are far from their end."""

DISPLACEMENT = 1.0
"""In A, the largest mean displacement of the atoms at fixed cell, drift removed.

Where atoms move further the start has melted: where each one ends is an accident, which no start tells.
"""

CONTACT = 0.6
"""Of the closest atoms at the end, in sums of their covalent radii."""

RISE = 1e-3
"""In eV/atom: a relaxation does not end above its start, but for rounding."""

OFF = 1.5
"""In eV/atom, how far energies may be from what their elements make of them (`find_outliers`).

Of sound compounds they scatter by some tenths; further below there are holes of a potential, further above what no one
makes.
"""


def find_refusal(start: Crystals, end: Crystals, row: Mapping[str, Any]) -> str | None:
    """Return why one relaxation is not kept, None where it is.

    Parameters
    ----------
    start, end
        The crystal before and after.
    row
        What the report of a prediction says of it.
    """
    return _find_failure(row) or _find_absurdity(start, end)


def _find_failure(row: Mapping[str, Any]) -> str | None:
    """Return why the relaxation itself is no good."""
    if row['status'] != 'ok':
        return f'not relaxed: {row["status"]}'
    told = row['potential']
    if 'error' in told:
        return 'not relaxed: the potential failed'
    if not told['converged']:
        return 'not converged'
    before = told['energy_input_eV_per_atom']  # none of a start that the potential cannot compute
    if before is not None and told['energy_prediction_eV_per_atom'] > before + RISE:
        return 'the energy rose'
    return None


def _find_absurdity(start: Crystals, end: Crystals) -> str | None:
    """Return why the end is no crystal that a person would look for."""
    if geometry_fault(end):
        return 'no crystal at the end'
    if not 1 / VOLUME_CHANGE < abs(end.volumes[0] / start.volumes[0]) < VOLUME_CHANGE:
        return f'the volume changed by more than a factor of {VOLUME_CHANGE:g}'
    if np.linalg.norm(displacements(start, end), axis=1).mean() > DISPLACEMENT:
        return f'atoms moved by more than {DISPLACEMENT:g} A on average'
    contact = closest_contact(end)
    if contact is not None and contact.ratio < CONTACT:
        return f'atoms closer than {CONTACT:g} of the sum of their radii at the end'
    return None


def find_outliers(crystals: Crystals, energies: Sequence[float]) -> NDArray[np.bool_]:
    """Return ``(S,)`` which energies, in eV/atom, are more than `OFF` from a sum over the elements of a crystal.

    The sum is fitted to all crystals by least squares, then again without the outliers.
    """
    elements = np.unique(crystals.numbers)
    shares = crystals.mean_over_atoms((crystals.numbers[:, None] == elements).astype(np.float64))
    values, kept = np.asarray(energies, dtype=np.float64), np.ones(len(crystals), dtype=bool)
    for _ in range(3):
        fitted = np.linalg.lstsq(shares[kept], values[kept], rcond=None)[0]
        kept = np.abs(values - shares @ fitted) <= OFF
    return ~kept
