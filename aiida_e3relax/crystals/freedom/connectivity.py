"""Networks of linked atoms, and in how many directions each repeats: three in a crystal, two in a layer.

The dimensionality is the rank of the lattice translations that lead from an atom to an image of itself along links
(Larsen, Pandey, Strange, Jacobsen, Phys. Rev. Mater. 3, 034003 (2019), who score it over many lengths of links).
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class Networks:
    """The networks of A atoms, of one crystal or of many.

    Attributes
    ----------
    root
        ``(A,)`` the first atom of the network that each atom belongs to.
    image
        ``(A, 3)`` the cell in which the image of each atom lies that is linked to `root` in cell 0.
    dimension
        ``(A,)`` in how many directions the network of each atom repeats, 0 to 3.
    line, normal
        ``(A, 3)`` integers: a translation of the network, along the lattice vectors, 0 where `dimension` is 0; and
        the Miller indices of the plane of its translations, 0 where `dimension` is below 2.
    """

    root: NDArray[np.int64]
    image: NDArray[np.int64]
    dimension: NDArray[np.int64]
    line: NDArray[np.int64]
    normal: NDArray[np.int64]


def find_networks(
    n_atoms: int, first: NDArray[np.int64], second: NDArray[np.int64], offset: NDArray[np.int64]
) -> Networks:
    """Return the networks that links make of `n_atoms` atoms.

    Parameters
    ----------
    first, second
        ``(L,)`` linked atoms; one direction of each link is enough.
    offset
        ``(L, 3)`` the cell of the image of `second` that is linked to `first`.
    """
    root, image = _join(n_atoms, first, second, offset)
    # Around each closed path of links: the translation from an atom to the image of itself at the end.
    around = image[first] + offset - image[second]
    owner = root[first]
    line = _one_of_each(n_atoms, owner, around)
    normal = _one_of_each(n_atoms, owner, np.cross(line[owner], around))
    volume = _one_of_each(n_atoms, owner, (normal[owner] * around).sum(axis=1, keepdims=True))
    dimension = np.array([found.any(axis=1) for found in (line, normal, volume)]).sum(axis=0)
    normal //= np.maximum(np.gcd(np.gcd(normal[:, :1], normal[:, 1:2]), normal[:, 2:]), 1)
    return Networks(root, image, dimension[root], line[root], normal[root])


def _join(
    n_atoms: int, first: NDArray[np.int64], second: NDArray[np.int64], offset: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return `root` and `image` of `Networks`: union-find over all links at once, the higher root below the lower."""
    root, image = np.arange(n_atoms), np.zeros((n_atoms, 3), dtype=np.int64)
    while True:
        apart = np.flatnonzero(root[first] != root[second])
        if not len(apart):
            return root, image
        a, b = first[apart], second[apart]
        shift = image[a] + offset[apart] - image[b]  # of the root of b, where that of a lies in cell 0
        low, high = np.minimum(root[a], root[b]), np.maximum(root[a], root[b])
        shift[root[a] > root[b]] *= -1
        lowest_last = np.argsort(-low, kind='stable')
        image[high[lowest_last]] = shift[lowest_last]
        root[high[lowest_last]] = low[lowest_last]
        while (root != root[root]).any():
            image += image[root]
            root = root[root]


def _one_of_each(count: int, owner: NDArray[np.int64], vectors: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return ``(count, n)`` one of the `vectors` ``(L, n)`` of each owner that is not zero, or zeros."""
    chosen = np.zeros((count, vectors.shape[1]), dtype=np.int64)
    found = vectors.any(axis=1)
    chosen[owner[found]] = vectors[found]
    return chosen
