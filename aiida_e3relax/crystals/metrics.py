"""The papers' measures of a predicted crystal against the relaxed one.

E3Relax-H2, eqs. 58-60 and section 4.9.4; bond lengths and lattices as in DeepRelax, eqs. 26 and 27.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.common.progress import progress
from aiida_e3relax.crystals.cells import shifted_to_nearest_image
from aiida_e3relax.crystals.structures import Crystals, pymatgen_structure


@dataclasses.dataclass(frozen=True)
class Bonds:
    """Directed pairs of atoms of a batch: ``centre``, ``neighbour`` ``(E,)`` and the neighbour's image ``(E, 3)``."""

    centre: NDArray[np.int64]
    neighbour: NDArray[np.int64]
    offset: NDArray[np.int64]

    def lengths(self, crystals: Crystals) -> NDArray[np.float64]:
        """Return the ``(E,)`` lengths in A of these bonds in `crystals`."""
        cells = crystals.cell[crystals.structure_index[self.centre]]
        shift = np.einsum('ec,ecx->ex', self.offset, cells)
        return np.linalg.norm(crystals.positions[self.neighbour] + shift - crystals.positions[self.centre], axis=1)


def coordinate_errors(predicted: Crystals, relaxed: Crystals) -> NDArray[np.float64]:
    """Return per atom ``(A,)`` the mean over x, y, z of the absolute error of its position, nearest image, in A."""
    index, cell = relaxed.structure_index, relaxed.cell
    difference = np.einsum('ax,axc->ac', predicted.positions - relaxed.positions, np.linalg.inv(cell)[index])
    vectors = np.einsum('ac,acx->ax', shifted_to_nearest_image(difference, cell, index), cell[index])
    return np.abs(vectors).mean(axis=1)


def coordinate_mae(predicted: Crystals, relaxed: Crystals) -> NDArray[np.float64]:
    """Return per structure ``(S,)`` the mean absolute error of Cartesian coordinates, nearest image, in A (eq. 58)."""
    error = coordinate_errors(predicted, relaxed)
    return np.bincount(relaxed.structure_index, error, len(relaxed)) / relaxed.n_atoms


def movable_coordinate_mae(predicted: Crystals, relaxed: Crystals, fixed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return per structure ``(S,)`` the mean absolute error of the coordinates that may move, nearest image, in A.

    `fixed` ``(A, 3)`` are the fractional coordinates that may not. Coordinates of an atom that is fixed in part count
    as many as may move; a structure in which none may gets NaN.
    """
    movable = (~fixed).mean(axis=1)
    error = coordinate_errors(predicted, relaxed) * (movable > 0)
    total, count = (np.bincount(relaxed.structure_index, values, len(relaxed)) for values in (error, movable))
    return np.divide(total, count, out=np.full(len(relaxed), np.nan), where=count > 0)


def cell_shape_deviation(predicted: Crystals, relaxed: Crystals) -> NDArray[np.float64]:
    """Return per structure ``(S,)`` the Frobenius norm of the difference of metric tensors, in A^2 (eq. 59)."""

    def metric(cell: NDArray[np.float64]) -> NDArray[np.float64]:
        return cell @ np.swapaxes(cell, 1, 2)

    return np.linalg.norm(metric(predicted.cell) - metric(relaxed.cell), axis=(1, 2))


def volume_error(predicted: Crystals, relaxed: Crystals) -> NDArray[np.float64]:
    """Return per structure ``(S,)`` the absolute error of the cell volume, in A^3 (eq. 60)."""
    return np.abs(np.abs(predicted.volumes) - np.abs(relaxed.volumes))


def lattice_mae(predicted: Crystals, relaxed: Crystals) -> NDArray[np.float64]:
    """Return per structure ``(S,)`` the mean absolute error of the lattice vectors' components, in A (eq. 27)."""
    return np.abs(predicted.cell - relaxed.cell).mean(axis=(1, 2))


def bond_length_mae(predicted: Crystals, relaxed: Crystals, bonds: Bonds) -> NDArray[np.float64]:
    """Return per structure ``(S,)`` the mean absolute error of the lengths of `bonds`, in A (eq. 26).

    Both crystals have their atoms in the images that `bonds` refer to. A structure without bonds gets NaN.
    """
    error = np.abs(bonds.lengths(predicted) - bonds.lengths(relaxed))
    crystal = relaxed.structure_index[bonds.centre]
    count = np.bincount(crystal, minlength=len(relaxed))
    total = np.bincount(crystal, error, len(relaxed))
    return np.divide(total, count, out=np.full(len(relaxed), np.nan), where=count > 0)


def matches(predicted: Crystals, relaxed: Crystals) -> NDArray[np.bool_]:
    """Return per structure ``(S,)`` whether pymatgen's StructureMatcher, with its defaults, maps one on the other."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    matcher = StructureMatcher()
    return np.array(
        [
            matcher.fit(pymatgen_structure(predicted, i), pymatgen_structure(relaxed, i))
            for i in progress(range(len(relaxed)), 'matching')
        ]
    )
