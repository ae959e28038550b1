"""Layers and the vacuum between their periodic images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def plane_normal(cell: NDArray[np.float64], vacuum: int) -> NDArray[np.float64]:
    """Return the unit normal of the two other lattice vectors, on the side of the lattice vector `vacuum`."""
    normal = np.cross(*(cell[axis] for axis in range(3) if axis != vacuum))
    normal /= np.linalg.norm(normal)
    return normal if normal @ cell[vacuum] > 0 else -normal


def vacuum_thickness(fractional: NDArray[np.float64], cell: NDArray[np.float64], vacuum: int) -> float:
    """Return the widest range in A, normal to the plane, that holds no atom along the lattice vector `vacuum`."""
    _, gap = _widest_gap(fractional[:, vacuum])
    return float(gap * (cell[vacuum] @ plane_normal(cell, vacuum)))


def contiguous_layer(fractional: NDArray[np.float64], vacuum: int) -> NDArray[np.float64]:
    """Return the fractional coordinates of the images that form one layer, not cut by the cell's border."""
    start, _ = _widest_gap(fractional[:, vacuum])
    layer = fractional.copy()
    layer[:, vacuum] = (fractional[:, vacuum] - start) % 1.0 + start
    return layer


def _widest_gap(heights: NDArray[np.float64]) -> tuple[float, float]:
    """Return the middle and the width of the widest gap between fractional heights, periodic images included."""
    sorted_heights = np.sort(heights % 1.0)
    gaps = np.diff(sorted_heights, append=sorted_heights[0] + 1.0)
    widest = gaps.argmax()
    return float(sorted_heights[widest] + gaps[widest] / 2), float(gaps[widest])
