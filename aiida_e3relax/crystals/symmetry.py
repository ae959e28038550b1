"""The space group of a crystal, and its average over strains and displacements."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.crystals.cells import inverse_of, reduction
from aiida_e3relax.crystals.structures import Crystals

SYMMETRY_DISTANCE = 1e-3
"""In A, how far sites may be off; files with four decimals are meant as symmetric."""

MOST_COMPARED = 10**6
"""Pairs of sites up to which all are compared."""

MOST_MAPPED = 10**6
"""Sites that are mapped at once; bounds the memory."""


@dataclasses.dataclass(frozen=True)
class SpaceGroup:
    """The symmetry operations of one crystal with N sites, O in number, lattice translations left out.

    Attributes
    ----------
    name
        International symbol.
    rotations
        ``(O, 3, 3)`` integers, acting on columns of fractional coordinates.
    translations
        ``(O, 3)`` fractional translations after the rotations.
    images
        ``(O, N)`` the site that each site is mapped on.
    cell
        ``(3, 3)`` lattice vectors as rows, in A.
    """

    name: str
    rotations: NDArray[np.int64]
    translations: NDArray[np.float64]
    images: NDArray[np.int64]
    cell: NDArray[np.float64]

    @classmethod
    def of(cls, crystal: Crystals, kinds: Sequence[str] | NDArray, distance: float = SYMMETRY_DISTANCE) -> SpaceGroup:
        """Return the space group of one crystal in which only sites of the same kind are mapped on each other.

        Sites may be off by `distance`, in A. Raises ValueError where spglib finds no group.
        """
        import spglib  # not there on a machine with PyTorch alone, which gets by without

        fractional = crystal.fractional()
        species = np.unique(kinds, return_inverse=True)[1]
        found = spglib.get_symmetry_dataset(
            (crystal.cell[0].tolist(), fractional.tolist(), species.tolist()), symprec=distance
        )
        if found is None:
            raise ValueError('spglib finds no space group; look for sites on top of each other')
        images = _map_sites(fractional, species, crystal.cell, found.rotations, found.translations)
        return cls(
            found.international,
            np.array(found.rotations, dtype=np.int64),
            np.array(found.translations),
            images,
            crystal.cell[0],
        )

    def find_asymmetry(self, fractional: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return what makes the crystal symmetric to the last digit, all of it within the distance of `of`.

        It is a displacement of the fractional coordinates ``(N, 3)`` and the logarithm ``(3, 3)`` of a symmetric
        Cartesian stretch of the cell.
        """
        displacements = np.zeros_like(fractional)
        for rotation, translation, images in zip(self.rotations, self.translations, self.images, strict=True):
            off = fractional @ rotation.T + translation - fractional[images]
            off -= np.round(off)
            displacements[images] += off - off.mean(axis=0)  # spglib's translations are no group to the last digit
        metric = (np.swapaxes(self.rotations, 1, 2) @ (self.cell @ self.cell.T) @ self.rotations).mean(axis=0)
        inverse = np.linalg.inv(self.cell)
        return displacements / len(self.rotations), _of_eigenvalues(inverse @ metric @ inverse.T, np.log) / 2

    def symmetrise_stretch(self, stretch: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the geometric mean of a symmetric Cartesian stretch ``(3, 3)`` over the operations."""
        return _of_eigenvalues(self.symmetrise_strain(_of_eigenvalues(stretch, np.log)), np.exp)

    def symmetrise_strain(self, strain: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mean of a symmetric Cartesian tensor ``(3, 3)`` over the operations."""
        cartesian = np.linalg.inv(self.cell) @ np.swapaxes(self.rotations, 1, 2) @ self.cell
        return (np.swapaxes(cartesian, 1, 2) @ strain @ cartesian).mean(axis=0)

    def symmetrise_displacements(self, displacements: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mean of fractional displacements ``(N, 3)`` over the operations."""
        total = np.zeros_like(displacements)
        # A supercell has thousands of operations, and no more than 48 rotations among them.
        rotations, of = np.unique(self.rotations, axis=0, return_inverse=True)
        for place, rotation in enumerate(rotations):
            images = self.images[of.reshape(-1) == place]
            turned = np.broadcast_to(displacements @ rotation.T, (len(images), *displacements.shape))
            for axis in range(3):
                total[:, axis] += np.bincount(images.ravel(), turned[:, :, axis].ravel(), len(total))
        return total / len(self.rotations)

    def keeps(self, movable: NDArray[np.bool_]) -> bool:
        """Return whether every operation maps the free fractional coordinates ``(N, 3)`` of a site on free ones."""
        return bool(self._keep(movable).all())

    def keeping(self, movable: NDArray[np.bool_]) -> SpaceGroup:
        """Return the group of the operations that map the free fractional coordinates ``(N, 3)`` on free ones."""
        kept = self._keep(movable)
        if kept.all():
            return self
        return dataclasses.replace(
            self,
            name=f'a subgroup of {self.name}',
            rotations=self.rotations[kept],
            translations=self.translations[kept],
            images=self.images[kept],
        )

    def _keep(self, movable: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return ``(O,)`` which operations map free coordinates on free ones alone."""
        if movable.all():
            return np.ones(len(self.rotations), dtype=bool)
        return np.array(
            [
                not (np.abs(rotation)[None] * movable[:, None, :] * ~movable[images][:, :, None]).any()
                for rotation, images in zip(self.rotations, self.images, strict=True)
            ]
        )


def _of_eigenvalues(
    matrix: NDArray[np.float64], function: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Return a function of a symmetric matrix."""
    values, axes = np.linalg.eigh(matrix)
    return (axes * function(values)) @ axes.T


def _map_sites(
    fractional: NDArray[np.float64],
    species: NDArray[np.int64],
    cell: NDArray[np.float64],
    rotations: NDArray[np.int32],
    translations: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Return the ``(O, N)`` sites of the same species that each operation maps the sites on.

    What is nearest in a reduced cell is so by its fractional coordinates, too. Trees find it in supercells with
    thousands of operations; a small cell does not pay for loading them.
    """
    to_reduced = inverse_of(reduction(cell))[0]
    images = np.empty((len(rotations), len(fractional)), dtype=np.int64)
    for kind in np.unique(species):
        sites = np.flatnonzero(species == kind)
        known = _wrapped(fractional[sites] @ to_reduced)
        is_small = len(rotations) * len(sites) ** 2 <= MOST_COMPARED
        find = _compare_all(known) if is_small else _make_tree(known)
        at_once = max(1, MOST_MAPPED // len(sites))
        for first in range(0, len(rotations), at_once):
            some = slice(first, first + at_once)
            mapped = fractional[sites] @ np.swapaxes(rotations[some], 1, 2) + translations[some, None]
            images[some, sites] = sites[find(_wrapped(mapped @ to_reduced))]
    return images


def _make_tree(known: NDArray[np.float64]) -> Callable[[NDArray[np.float64]], NDArray[np.int64]]:
    """Return what finds the nearest of the `known` fractional coordinates, by a tree."""
    from scipy.spatial import cKDTree

    tree = cKDTree(known, boxsize=1.0)
    return lambda points: tree.query(points)[1]


def _compare_all(known: NDArray[np.float64]) -> Callable[[NDArray[np.float64]], NDArray[np.int64]]:
    """Return what finds the nearest of the `known` fractional coordinates, by comparing with each."""

    def find(points: NDArray[np.float64]) -> NDArray[np.int64]:
        apart = points[..., None, :] - known
        return ((apart - np.rint(apart)) ** 2).sum(axis=-1).argmin(axis=-1)

    return find


def _wrapped(fractional: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return fractional coordinates from 0 up to, but not, 1."""
    inside = fractional - np.floor(fractional)
    return np.where(inside < 1.0, inside, 0.0)
