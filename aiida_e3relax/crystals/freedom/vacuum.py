"""Vacuum: the empty space around a layer, a wire or a molecule in a cell that is repeated in three directions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.crystals.cells import images_within, reduction
from aiida_e3relax.crystals.freedom.connectivity import find_networks
from aiida_e3relax.crystals.freedom.freedom import AXES, NO_VACUUM, Freedom
from aiida_e3relax.crystals.neighbours import pairs_within

if TYPE_CHECKING:
    from aiida_e3relax.crystals.structures import Crystals

SMALLEST_VACUUM = 5.0
"""In A, normal to a layer; between the layers of a crystal there are 3 to 4."""

LONGEST_LINK = 5.5
"""In A: a vacuum that no one declares is where no two atoms are closer than this across it.

In sound crystals atoms are linked to all others over shorter distances: 5.3 A in caesium, the longest of an element,
and at most as far in all compounds of `benchmarks/vacuum.py` but those with layers that wide apart.
"""

FIRST_LINK = 4.0
"""In A; over this distance most crystals hang together, which spares the search of the others."""

MOST_IMAGES = 100_000
"""Images of a cell that are looked at; a cell of 1 A^3 has some thousands within `LONGEST_LINK`."""

Search = Callable[['Crystals', float], Sequence[NDArray]]
"""Returns the pairs of atoms of one crystal within a distance in A, as `pairs_within`, and where that is not there."""


@dataclasses.dataclass(frozen=True)
class Gap:
    """The vacuum around what one crystal's cell holds.

    Attributes
    ----------
    periodic
        ``(d, 3)`` integer combinations of the lattice vectors along which the matter goes on: two of a layer, one of a
        wire, none of a molecule.
    images
        ``(N, 3)`` the cells of those images of the sites that lie together, not cut by the cell's border.
    width
        In A: how far two images are apart, of a layer normal to it; of wires and molecules, at least so far.
    """

    periodic: NDArray[np.int64]
    images: NDArray[np.int64]
    width: float

    @property
    def dimension(self) -> int:
        """2 around a layer, 1 around a wire, 0 around a molecule."""
        return len(self.periodic)

    @property
    def open_axes(self) -> list[int]:
        """The lattice vectors that lead across the vacuum while the matter goes on along the others alone."""
        return np.flatnonzero(~self.periodic.any(axis=0)).tolist()

    def __str__(self) -> str:
        if self.dimension == 2:
            across = f' along {AXES[self.open_axes[0]]}' if self.open_axes else ''
            return f'a layer with {self.width:.1f} A of vacuum{across}'
        matter = 'a wire' if self.dimension else 'a molecule'
        return f'{matter} with at least {self.width:g} A of vacuum around'


def gap_of(freedom: Freedom, crystal: Crystals, search: Search | None = None) -> Gap | None:
    """Return the vacuum of one crystal that a relaxation with `freedom` has to keep; None where there is none.

    It is the one that `freedom` or the periodic directions declare, else the one that the atoms leave: see `find_gap`.
    """
    if freedom.vacuum == NO_VACUUM:
        return None
    axis = freedom.vacuum_axis(crystal.pbc[0])
    if axis is None:
        return find_gap(crystal, search)
    return _axis_gap(crystal.fractional(), crystal.cell[0], axis)


def find_gap(crystal: Crystals, search: Search | None = None) -> Gap | None:
    """Return the vacuum in one crystal by where its atoms are, whatever its periodic directions say; None without one.

    Atoms within `LONGEST_LINK` are linked. What is linked to images of itself in three directions is a crystal, with
    whatever pores. A layer has to leave `SMALLEST_VACUUM` between two parallel planes too.
    """
    search = search or pairs_within
    if not _can_be_searched(crystal):
        return None
    for reach in (FIRST_LINK, LONGEST_LINK):
        first, second, offset, *_ = search(crystal, reach)
        networks = find_networks(len(crystal.numbers), first, second, offset)
        dimension = int(networks.dimension.max())
        if dimension == 3:
            return None
    site = int(networks.dimension.argmax())
    if dimension < 2:
        return Gap(networks.line[[site]][:dimension], networks.image, reach)
    return _layer_gap(crystal, networks.normal[site], networks.image)


def _can_be_searched(crystal: Crystals) -> bool:
    """Return whether one crystal has atoms in a cell that a search ends in; others are refused for that elsewhere."""
    if not len(crystal.numbers) or not (np.isfinite(crystal.positions).all() and np.isfinite(crystal.cell).all()):
        return False
    reduced = reduction(crystal.cell) @ crystal.cell
    return bool(images_within(reduced, LONGEST_LINK)[0] <= MOST_IMAGES)


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


def _layer_gap(crystal: Crystals, normal: NDArray[np.int64], images: NDArray[np.int64]) -> Gap | None:
    """Return the vacuum between layers with the Miller indices `normal`, None where it is narrower than the smallest.

    Layers that wind into each other leave no range of heights empty: they are taken for a crystal.
    """
    fractional, cell = crystal.fractional(), crystal.cell[0]
    if np.count_nonzero(normal) == 1:
        gap = _axis_gap(fractional, cell, int(np.flatnonzero(normal)[0]))
    else:
        _, widest = _widest_gap(fractional @ normal)
        across = np.delete(np.cross(normal, np.eye(3, dtype=np.int64)), np.abs(normal).argmax(), axis=0)
        gap = Gap(across, images, float(widest / np.linalg.norm(np.linalg.solve(cell, normal))))
    return gap if gap.width >= SMALLEST_VACUUM else None


def _axis_gap(fractional: NDArray[np.float64], cell: NDArray[np.float64], axis: int) -> Gap:
    """Return the vacuum that the lattice vector `axis` leads across."""
    images = np.round(contiguous_layer(fractional, axis) - fractional).astype(np.int64)
    return Gap(np.delete(np.eye(3, dtype=np.int64), axis, axis=0), images, vacuum_thickness(fractional, cell, axis))


def _widest_gap(heights: NDArray[np.float64]) -> tuple[float, float]:
    """Return the middle and the width of the widest gap between fractional heights, periodic images included."""
    sorted_heights = np.sort(heights % 1.0)
    gaps = np.diff(sorted_heights, append=sorted_heights[0] + 1.0)
    widest = gaps.argmax()
    return float(sorted_heights[widest] + gaps[widest] / 2), float(gaps[widest])
