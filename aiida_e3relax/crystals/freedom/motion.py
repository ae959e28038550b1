"""How one crystal may move from where it starts: the steps that its freedom and its symmetry leave, and no others.

An optimiser goes along displacements and strains. What may not move is taken out of both, so that it stays to the last
digit, and what is left is a minimum in just the space that VASP relaxes in with the same freedom.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.crystals.freedom.freedom import Freedom, Moves
from aiida_e3relax.crystals.freedom.vacuum import gap_of
from aiida_e3relax.crystals.structures import Crystals
from aiida_e3relax.crystals.symmetry import SYMMETRY_DISTANCE, SpaceGroup


@dataclasses.dataclass(frozen=True, eq=False)
class Motion:
    """The displacements and strains of one crystal that its freedom and its symmetry leave.

    A geometry is given by displacements ``(N, 3)``, in A in the cell of the start, and a strain ``(3, 3)``, the
    symmetric logarithm of a stretch of its lattice vectors, which does not turn it.

    Attributes
    ----------
    start
        One crystal, where displacements and strain are zero.
    moves
        A value of `Moves`.
    movable
        ``(N, 3)`` which fractional coordinates may change.
    group
        The symmetry that is kept; None keeps none.
    held
        ``(3,)`` the lattice vectors that stay while the others move.
    """

    start: Crystals
    moves: str
    movable: NDArray[np.bool_]
    group: SpaceGroup | None
    held: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        crystal: Crystals,
        freedom: Freedom,
        kinds: Sequence[str],
        raw: Crystals,
        distance: float = SYMMETRY_DISTANCE,
    ) -> Self:
        """Return how one crystal, its sites of these `kinds`, moves with `freedom`.

        It starts as symmetric to the last digit as it is within `distance`, in A, where the freedom leaves that, and
        stays so, as far as fixed sites are symmetric too. With `keep_symmetry` it stays as symmetric as the `raw`
        crystal that the freedom was meant for.
        """
        movable = freedom.movable(len(kinds))
        if freedom.moves == Moves.VOLUME:
            movable[:] = False
        gap = gap_of(freedom, crystal) if freedom.moves == Moves.IN_PLANE else None
        motion = cls(crystal, freedom.moves, movable, None, np.isin(np.arange(3), gap.open_axes if gap else []))
        try:
            group = SpaceGroup.of(raw if freedom.keep_symmetry else crystal, kinds, distance)
        except ValueError:  # spglib finds none
            return motion
        group = dataclasses.replace(group.keeping(freedom.movable(len(kinds))), cell=crystal.cell[0])
        return dataclasses.replace(motion, group=group) if freedom.keep_symmetry else motion._refined(group)

    @property
    def cell_moves(self) -> bool:
        """Whether any strain may be."""
        return self.moves != Moves.POSITIONS

    def cell(self, strain: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the ``(3, 3)`` lattice vectors after a strain that may be."""
        values, axes = np.linalg.eigh(strain)
        start = self.start.cell[0]
        return np.where(self.held[:, None], start, start @ (axes * np.exp(values)) @ axes.T)

    def positions(self, displacements: NDArray[np.float64], cell: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the ``(N, 3)`` positions in A after displacements that may be, in another `cell`."""
        start = self.start.cell[0]
        return (self.start.positions + displacements) @ np.linalg.inv(start) @ cell

    def strain_gradient(
        self, strain: NDArray[np.float64], cell: NDArray[np.float64], stress: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the derivative ``(3, 3)`` of the energy by a strain, in eV, along the strains that may be.

        `stress` ``(3, 3)`` in eV/A^3 is that in `cell`, where fractional coordinates are kept. The derivative of the
        exponential of a matrix is that of Daleckii and Krein.
        """
        values, axes = np.linalg.eigh(strain)
        exponentials = np.exp(values)
        apart = values[:, None] - values
        near = np.abs(apart) < 1e-8
        quotients = np.where(
            near,
            (exponentials[:, None] + exponentials) / 2,
            (exponentials[:, None] - exponentials) / np.where(near, 1.0, apart),
        )
        by_cell = np.where(self.held[:, None], 0.0, np.linalg.inv(cell).T @ stress * abs(np.linalg.det(cell)))
        by_stretch = self.start.cell[0].T @ by_cell
        return self.project_strain(axes @ (quotients * (axes.T @ by_stretch @ axes)) @ axes.T)

    def project_strain(self, strain: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the part ``(3, 3)`` of a strain, or of a stress, along the strains that may be."""
        if self.moves == Moves.POSITIONS:
            return np.zeros((3, 3))
        strain = (strain + strain.T) / 2
        if self.group is not None:
            strain = self.group.symmetrise_strain(strain)
            strain = (strain + strain.T) / 2
        if self.moves == Moves.VOLUME:
            return np.trace(strain) / 3 * np.eye(3)
        if self.moves == Moves.SHAPE:
            return strain - np.trace(strain) / 3 * np.eye(3)
        if self.held.any():
            plane = np.linalg.svd(self.start.cell[0][~self.held], full_matrices=False)[2]
            return plane.T @ (plane @ strain @ plane.T) @ plane
        return strain

    def project_displacements(
        self, vectors: NDArray[np.float64], cell: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        """Return the part ``(N, 3)`` of displacements, or of forces, along what may move in `cell`, that of the start.

        A fractional coordinate that is fixed leaves the plane normal to its reciprocal vector.
        """
        cell = self.start.cell[0] if cell is None else cell
        inverse = np.linalg.inv(cell)
        if self.group is not None:
            vectors = self.group.symmetrise_displacements(vectors @ inverse) @ cell
        if self.movable.all():
            return vectors - vectors.mean(axis=0)  # a common shift is no relaxation
        projected = vectors.copy()
        for row in np.unique(self.movable, axis=0):
            sites = (self.movable == row).all(axis=1)
            normals = inverse.T[~row]
            projected[sites] -= vectors[sites] @ (np.linalg.pinv(normals) @ normals)
        return projected

    def _refined(self, group: SpaceGroup) -> Self:
        """Return the motion of the start made symmetric, as far as it may move."""
        crystal = self.start
        shift, strain = group.find_asymmetry(crystal.fractional())
        cell = self.cell(self.project_strain(strain))
        shift = np.where(self.movable, shift, 0.0)
        refined = crystal.replace((crystal.fractional() + shift) @ cell, cell[None])
        return dataclasses.replace(self, start=refined, group=dataclasses.replace(group, cell=cell))
