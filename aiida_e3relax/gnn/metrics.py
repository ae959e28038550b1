"""The papers' measures of a predicted crystal against the relaxed one (E3Relax-H2, eqs. 58-60 and section 4.9.4)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.gnn.datasets import nearest_image
from aiida_e3relax.gnn.progress import progress
from aiida_e3relax.gnn.structures import Crystals


def coordinate_mae(predicted: Crystals, relaxed: Crystals) -> NDArray[np.float64]:
    """Return per structure ``(S,)`` the mean absolute error of Cartesian coordinates, nearest image, in A (eq. 58)."""
    cells = relaxed.cell[relaxed.structure_index]
    inverse = np.linalg.inv(cells)
    difference = np.einsum('ax,axc->ac', predicted.positions - relaxed.positions, inverse)
    error = np.abs(np.einsum('ac,acx->ax', nearest_image(difference, cells), cells)).mean(axis=1)
    return np.bincount(relaxed.structure_index, error, len(relaxed)) / relaxed.n_atoms


def cell_shape_deviation(predicted: Crystals, relaxed: Crystals) -> NDArray[np.float64]:
    """Return per structure ``(S,)`` the Frobenius norm of the difference of metric tensors, in A^2 (eq. 59)."""

    def metric(cell: NDArray[np.float64]) -> NDArray[np.float64]:
        return cell @ np.swapaxes(cell, 1, 2)

    return np.linalg.norm(metric(predicted.cell) - metric(relaxed.cell), axis=(1, 2))


def volume_error(predicted: Crystals, relaxed: Crystals) -> NDArray[np.float64]:
    """Return per structure ``(S,)`` the absolute error of the cell volume, in A^3 (eq. 60)."""
    return np.abs(np.abs(predicted.volumes) - np.abs(relaxed.volumes))


def matches(predicted: Crystals, relaxed: Crystals) -> NDArray[np.bool_]:
    """Return per structure ``(S,)`` whether pymatgen's StructureMatcher, with its defaults, maps one on the other."""
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.core import Lattice, Structure

    matcher, offsets = StructureMatcher(), relaxed.offsets

    def structure(crystals: Crystals, index: int) -> Structure:
        atoms = slice(offsets[index], offsets[index + 1])
        return Structure(
            Lattice(crystals.cell[index]),
            crystals.numbers[atoms].tolist(),
            crystals.positions[atoms],
            coords_are_cartesian=True,
        )

    return np.array(
        [matcher.fit(structure(predicted, i), structure(relaxed, i)) for i in progress(range(len(relaxed)), 'matching')]
    )
