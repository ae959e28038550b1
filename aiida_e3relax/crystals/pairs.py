"""Pairs of unrelaxed and relaxed crystals, and their alignment in one frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.crystals.cells import shifted_to_nearest_image
from aiida_e3relax.crystals.structures import Crystals

SPLITS = ('train', 'val', 'test')


@dataclasses.dataclass(frozen=True)
class Pairs:
    """S pairs with the same sites in the same order in both crystals.

    Attributes
    ----------
    unrelaxed, relaxed
        The crystals before and after.
    split
        ``(S,)`` one of train, val, test.
    source
        ``(S,)`` the data set that each pair comes from.
    filed
        The relaxed crystals as their files give them, where `relaxed` was brought into the frame of `unrelaxed`;
        None where `relaxed` is as filed.
    """

    unrelaxed: Crystals
    relaxed: Crystals
    split: NDArray[np.str_]
    source: NDArray[np.str_]
    filed: Crystals | None = None

    def __len__(self) -> int:
        return len(self.unrelaxed)

    @property
    def as_filed(self) -> Crystals:
        """The relaxed crystals as their files give them: with drift, rotation and wrapped atoms."""
        return self.relaxed if self.filed is None else self.filed

    def select(self, indices: NDArray[np.int64]) -> Pairs:
        """Return the pairs at `indices`."""
        return Pairs(
            self.unrelaxed.select(indices),
            self.relaxed.select(indices),
            self.split[indices],
            self.source[indices],
            None if self.filed is None else self.filed.select(indices),
        )

    def of_split(self, split: str) -> Pairs:
        """Return the pairs of one split."""
        return self.select(np.flatnonzero(self.split == split))

    @staticmethod
    def concatenate(parts: Iterable[Pairs]) -> Pairs:
        """Return the pairs of all `parts` together."""
        parts = list(parts)
        filed = all(p.filed is None for p in parts)
        return Pairs(
            Crystals.concatenate(p.unrelaxed for p in parts),
            Crystals.concatenate(p.relaxed for p in parts),
            np.concatenate([p.split for p in parts]),
            np.concatenate([p.source for p in parts]),
            None if filed else Crystals.concatenate(p.as_filed for p in parts),
        )


def mean_shift(difference: NDArray[np.float64], crystals: Crystals) -> NDArray[np.float64]:
    """Return the ``(S, 3)`` circular mean over atoms of fractional differences ``(A, 3)``, whatever their images."""
    return np.angle(crystals.mean_over_atoms(np.exp(2j * np.pi * difference))) / (2 * np.pi)


def aligned(pairs: Pairs, drift: bool = True, rotation: bool = True) -> Pairs:
    """Return the pairs with their relaxed crystals in the frame of the unrelaxed ones.

    Three things that no relaxation does are taken out of the target: atoms that left the cell on one side and are
    written on the other (nearest image), the rigid shift of all atoms (the mean fractional displacement becomes zero),
    and the rotation between the two frames, which files written from lattice parameters contain (polar decomposition of
    the deformation: the relaxed cell becomes ``L_0 P`` with P symmetric and positive).

    Parameters
    ----------
    pairs
        Pairs as filed, or aligned before.
    drift, rotation
        False leaves the rigid shift, or the frame, of the relaxed crystals as it is.

    Raises
    ------
    ValueError
        Where the two cells of a pair have opposite handedness; the message names the pairs.
    """
    before, after = pairs.unrelaxed, pairs.relaxed
    deformation = np.linalg.inv(before.cell) @ after.cell
    bad = np.flatnonzero(np.linalg.det(deformation) <= 0)
    if len(bad):
        raise ValueError(f'cells of opposite handedness in pairs {before.labels[bad].tolist()}: mirror one of the two')
    cell = after.cell
    if rotation:
        left, stretches, _ = np.linalg.svd(deformation)
        cell = before.cell @ (left * stretches[:, None] @ np.swapaxes(left, 1, 2))
    crystal, fractional = before.structure_index, before.fractional()
    difference = after.fractional() - fractional
    shift = mean_shift(difference, before)
    displacement = shifted_to_nearest_image(difference - shift[crystal], cell, crystal)
    residue = before.mean_over_atoms(displacement)
    displacement -= residue[crystal]
    if not drift:
        displacement += (shift + residue)[crystal]
    positions = np.einsum('ac,acx->ax', fractional + displacement, cell[crystal])
    return dataclasses.replace(pairs, relaxed=after.replace(positions, cell), filed=pairs.as_filed)
