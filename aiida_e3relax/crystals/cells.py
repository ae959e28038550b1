"""Cells of lattices as arrays, many at once: reduced ones, their widths, and the nearest of all periodic images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FURTHEST = 1e4
"""Lattice vectors longer than this, and atoms further from the origin, in A, are no crystal's: single precision has no
third decimal there."""

_TOLERANCE = 1e-9
"""By how much, relative to its square, a lattice vector must get shorter to be replaced: rounding replaces none."""

_MOST_STEPS = 200
"""Of a reduction; each shortens a vector, and cells within `_SKEWEST` take a few dozen."""

_SKEWEST = 1e15
"""Cells whose cubed length is more than this times their volume are left as they are: float64 cannot resolve them."""

_IMAGES = np.stack(np.meshgrid(*[[0, -1, 1]] * 3, indexing='ij'), axis=-1).reshape(27, 3)
_IN_PLANE = _IMAGES[::3, :2]


def widths(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ``(S, 3)`` distances between opposite faces of cells ``(S, 3, 3)``, in A; 0 without a volume."""
    areas = np.linalg.norm(np.cross(np.roll(cells, -1, axis=1), np.roll(cells, -2, axis=1)), axis=2)
    volumes = np.abs(np.linalg.det(cells))[:, None]
    return np.divide(volumes, areas, out=np.zeros_like(areas), where=areas > 0)


def reduction(cells: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the ``(S, 3, 3)`` integers T of determinant 1 or -1 for which ``T @ cells`` are Minkowski-reduced.

    The vectors of such a cell are the shortest that span its lattice. T is the identity where the cell ``(S, 3, 3)`` is
    reduced already, whatever the order of its vectors, and where it has no volume or is not finite. The algorithm is
    that of Semaev (CaLC 2001, LNCS 2146, 181) for all cells at once.
    """
    found = np.tile(np.eye(3, dtype=np.int64), (len(cells), 1, 1))
    active = np.flatnonzero(_can_be_reduced(cells))
    active = active[~_are_reduced(cells[active])]
    if not len(active):
        return found
    transforms = found[active]
    for _ in range(_MOST_STEPS):
        transforms, moved = _shortened(transforms, cells[active])
        found[active] = transforms
        active, transforms = active[moved], transforms[moved]
        if not len(active):
            break
    return found


def inverse_of(transforms: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the inverses of integer matrices ``(S, 3, 3)`` of determinant 1 or -1, exact."""
    a, b, c = transforms.transpose(1, 0, 2)
    adjugate = np.stack([np.cross(b, c), np.cross(c, a), np.cross(a, b)], axis=2)
    return adjugate * np.einsum('sx,sx->s', a, np.cross(b, c))[:, None, None]


def shifted_to_nearest_image(
    difference: NDArray[np.float64], cells: NDArray[np.float64], structure_index: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return fractional differences ``(A, 3)`` shifted by whole cells to the shortest Cartesian vector.

    The 27 images around the rounded difference are tried (E3Relax-H2, eq. 37), in the reduced cell: there the nearest
    is among them, as the faces of a lattice's Voronoi cell belong to vectors with coefficients -1, 0 and 1 (Nguyen and
    Stehle, ACM Trans. Algorithms 5, 46 (2009)). In a skewed cell it need not be.

    Parameters
    ----------
    difference
        Differences, whatever their images.
    cells
        ``(S, 3, 3)`` lattice vectors as rows, in A.
    structure_index
        ``(A,)`` the cell that each difference lies in.
    """
    transforms = reduction(cells)
    skewed = (transforms != np.eye(3, dtype=np.int64)).any()
    reduced = transforms @ cells if skewed else cells
    inside = difference
    if skewed:
        inside = np.einsum('ac,acd->ad', difference, inverse_of(transforms)[structure_index])
    shift = -np.round(inside)
    # What is shorter than half the shortest lattice vector has no nearer image: most displacements are.
    vectors = np.einsum('ac,acx->ax', inside + shift, reduced[structure_index])
    near = np.linalg.norm(reduced, axis=2).min(axis=1)[structure_index] / 2
    far = np.flatnonzero(~(np.linalg.norm(vectors, axis=1) < near))
    images = np.einsum('ic,acx->aix', _IMAGES, reduced[structure_index[far]])
    shift[far] += _IMAGES[np.square(vectors[far][:, None] + images).sum(axis=2).argmin(axis=1)]
    if skewed:
        shift = np.einsum('ac,acd->ad', shift, transforms[structure_index])
    return difference + shift


def images_within(cells: NDArray[np.float64], reach: float) -> NDArray[np.float64]:
    """Return how many images of a cell ``(S, 3, 3)`` a search within `reach` A of any point in it looks at ``(S,)``."""
    with np.errstate(over='ignore', divide='ignore'):
        return np.prod(2 * np.floor(reach / widths(cells) + 0.5) + 1, axis=1)


def _can_be_reduced(cells: NDArray[np.float64]) -> NDArray[np.bool_]:
    with np.errstate(over='ignore', invalid='ignore'):
        longest = np.abs(cells).max(axis=(1, 2), initial=0.0)
        volumes = np.abs(np.linalg.det(cells))
        return np.isfinite(cells).all(axis=(1, 2)) & (volumes > 0) & (longest**3 <= _SKEWEST * volumes)


def _are_reduced(cells: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return whether no sum or difference of lattice vectors is shorter than the longest of them."""
    products = cells @ cells.transpose(0, 2, 1)
    squares = np.diagonal(products, axis1=1, axis2=2)
    off = np.stack([products[:, 0, 1], products[:, 0, 2], products[:, 1, 2]], axis=1)
    shorter = np.minimum(squares[:, [0, 0, 1]], squares[:, [1, 2, 2]])
    pairs = (2 * np.abs(off) <= shorter * (1 + _TOLERANCE)).all(axis=1)
    # Of all three: the signs that make the sum shortest have an even number of reversals.
    signs = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    shortest = squares.sum(axis=1) + 2 * (off @ signs.T).min(axis=1)
    return pairs & (shortest >= squares.max(axis=1) * (1 - _TOLERANCE))


def _shortened(
    transforms: NDArray[np.int64], cells: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return transforms to cells with a shorter second or third vector, by length, and for which there is any."""
    reduced = transforms @ cells
    order = np.argsort(np.linalg.norm(reduced, axis=2), axis=1, kind='stable')[:, :, None]
    transforms, reduced = np.take_along_axis(transforms, order, 1), np.take_along_axis(reduced, order, 1)
    a, b, c = reduced.transpose(1, 0, 2)
    aa, bb, ab, ac, bc = (np.einsum('sx,sx->s', *two) for two in ((a, a), (b, b), (a, b), (a, c), (b, c)))
    in_plane = np.round(ab / aa)
    # The lattice point of the plane that is nearest to c, around the rounded foot of its perpendicular.
    determinant = np.maximum(aa * bb - ab**2, np.finfo(float).tiny)
    foot = np.round(np.stack([(ac * bb - bc * ab), (bc * aa - ac * ab)], axis=1) / determinant[:, None])
    candidates = foot[:, None] + _IN_PLANE
    lengths = np.square(c[:, None] - np.einsum('sic,scx->six', candidates, reduced[:, :2])).sum(axis=2)
    nearest = lengths.argmin(axis=1)
    of_pair = np.square(b - in_plane[:, None] * a).sum(axis=1) < bb * (1 - _TOLERANCE)
    of_third = ~of_pair & (lengths.min(axis=1) < np.square(c).sum(axis=1) * (1 - _TOLERANCE))
    new = transforms.copy()
    new[of_pair, 1] -= in_plane[of_pair].astype(np.int64)[:, None] * transforms[of_pair, 0]
    steps = candidates[np.arange(len(cells)), nearest].astype(np.int64)
    new[of_third, 2] -= np.einsum('sc,scx->sx', steps[of_third], transforms[of_third, :2])
    return new, of_pair | of_third
