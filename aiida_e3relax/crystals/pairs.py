"""Pairs of unrelaxed and relaxed crystals, and their alignment in one frame."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.crystals.cells import shifted_to_nearest_image
from aiida_e3relax.crystals.structures import Crystals

SPLITS = ('train', 'val', 'test')
"""The kinds of splits. There may be several to validate and to test on, such as OC20's ``val_ood_ads``."""

SPLIT_NAMES = 'train, val or test, or a named one such as val_id or test_ood_ads'
"""What a split may be called, for messages."""

_NAMED_SPLIT = re.compile(r'train|(val|test)(_[A-Za-z0-9][\w.+-]*)?', re.ASCII)

PIECE_ATOMS = 1 << 18
"""Atoms whose targets are computed at a time: temporaries take some hundred bytes of each."""

FIXED_TOLERANCE = 0.01
"""In A: what is fixed and differs by less between two files is the same, written with other digits."""


def is_split(name: str) -> bool:
    """Return whether a split may be called `name`."""
    return _NAMED_SPLIT.fullmatch(name) is not None


def split_names(found: Iterable[str]) -> list[str]:
    """Return the names of splits among those `found`: train, val and test first, in this order.

    Each of these stands for the named ones of its kind where there are any.
    """
    names = sorted({name for name in found if is_split(name)})
    return [name for kind in SPLITS for name in ([n for n in names if n.partition('_')[0] == kind] or [kind])]


@dataclasses.dataclass(frozen=True)
class Pairs:
    """S pairs with the same sites in the same order in both crystals.

    Attributes
    ----------
    unrelaxed, relaxed
        The crystals before and after.
    split
        ``(S,)`` train, val, test, or a named split to validate or to test on, see `is_split`.
    source
        ``(S,)`` the data set that each pair comes from.
    filed
        The relaxed crystals as their files give them, where `relaxed` was brought into the frame of `unrelaxed`;
        None where `relaxed` is as filed.
    fixed
        ``(A, 3)`` the fractional coordinates, along the lattice vectors, that a relaxation does not move, as in VASP's
        selective dynamics; None where none is fixed in any pair.
    fixed_cell
        ``(S,)`` the pairs whose cell a relaxation does not change; None where it may in all of them.
    about
        Texts ``(S,)`` that tell of each pair, by name, such as its `kind` or the `teacher` that relaxed it; empty where
        a pair has none.
    """

    unrelaxed: Crystals
    relaxed: Crystals
    split: NDArray[np.str_]
    source: NDArray[np.str_]
    filed: Crystals | None = None
    fixed: NDArray[np.bool_] | None = None
    fixed_cell: NDArray[np.bool_] | None = None
    about: Mapping[str, NDArray[np.str_]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, texts in self.about.items():
            if len(texts) != len(self):
                raise ValueError(f'pairs: `about` {name} has {len(texts)} texts, expected {len(self)}')
        for name, shape in (('fixed', self.unrelaxed.positions.shape), ('fixed_cell', (len(self),))):
            mask = getattr(self, name)
            if mask is not None and mask.shape != shape:
                raise ValueError(f'pairs: array `{name}` has shape {mask.shape}, expected {shape}')
            if mask is not None and not mask.any():
                object.__setattr__(self, name, None)

    def __len__(self) -> int:
        return len(self.unrelaxed)

    @property
    def anchored(self) -> NDArray[np.bool_]:
        """``(S, 3)`` the lattice vectors along which some atom is fixed, so that the crystal cannot shift."""
        if self.fixed is None:
            return np.zeros((len(self), 3), dtype=bool)
        return self.unrelaxed.mean_over_atoms(self.fixed.astype(np.float64)) > 0

    def centred(self, crystals: Crystals) -> Crystals:
        """Return forms of these `crystals`, each shifted rigidly to the mean position of the unrelaxed one's atoms.

        Not along lattice vectors along which an atom is fixed: those atoms say where the crystal is.
        """
        if self.fixed is None:
            return crystals.with_centroids_of(self.unrelaxed)
        shift = self.unrelaxed.mean_over_atoms(self.unrelaxed.positions - crystals.positions)
        along = np.einsum('sx,sxc->sc', shift, np.linalg.inv(crystals.cell))
        shift = np.einsum('sc,scx->sx', np.where(self.anchored, 0.0, along), crystals.cell)
        return crystals.replace(crystals.positions + shift[crystals.structure_index], crystals.cell)

    @property
    def as_filed(self) -> Crystals:
        """The relaxed crystals as their files give them: with drift, rotation and wrapped atoms."""
        return self.relaxed if self.filed is None else self.filed

    @property
    def kinds(self) -> NDArray[np.str_]:
        """``(S,)`` the kind of each pair, such as ``layer`` or ``denoising``; empty where it has none."""
        return self.about.get('kind', np.full(len(self), ''))

    def count(self, by: NDArray[np.str_]) -> dict[str, dict[str, int]]:
        """Return how many pairs of each split have each of the names `by` ``(S,)``, such as `source` or `kinds`.

        The empty name does not count.
        """
        splits = split_names(self.split.tolist())
        return {
            str(name): {split: int(((by == name) & (self.split == split)).sum()) for split in splits}
            for name in np.unique(by[by != ''])
        }

    def select(self, indices: NDArray[np.int64]) -> Pairs:
        """Return the pairs at `indices`."""
        return Pairs(
            self.unrelaxed.select(indices),
            self.relaxed.select(indices),
            self.split[indices],
            self.source[indices],
            None if self.filed is None else self.filed.select(indices),
            None if self.fixed is None else self.fixed[self.unrelaxed.atoms_of(indices)],
            None if self.fixed_cell is None else self.fixed_cell[indices],
            {name: texts[indices] for name, texts in self.about.items()},
        )

    def of_split(self, split: str) -> Pairs:
        """Return the pairs of one split."""
        return self.select(np.flatnonzero(self.split == split))

    @staticmethod
    def concatenate(parts: Iterable[Pairs]) -> Pairs:
        """Return the pairs of all `parts` together."""
        parts = list(parts)
        filed, fixed, fixed_cell = (
            all(getattr(p, name) is None for p in parts) for name in ('filed', 'fixed', 'fixed_cell')
        )
        return Pairs(
            Crystals.concatenate(p.unrelaxed for p in parts),
            Crystals.concatenate(p.relaxed for p in parts),
            np.concatenate([p.split for p in parts]),
            np.concatenate([p.source for p in parts]),
            None if filed else Crystals.concatenate(p.as_filed for p in parts),
            None if fixed else np.concatenate([_mask(p.fixed, p.unrelaxed.positions.shape) for p in parts]),
            None if fixed_cell else np.concatenate([_mask(p.fixed_cell, (len(p),)) for p in parts]),
            {
                name: np.concatenate([p.about.get(name, np.full(len(p), '')) for p in parts])
                for name in dict.fromkeys(name for p in parts for name in p.about)
            },
        )


def _mask(mask: NDArray[np.bool_] | None, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    return np.zeros(shape, dtype=bool) if mask is None else mask


def mean_shift(difference: NDArray[np.float64], pairs: Pairs) -> NDArray[np.float64]:
    """Return the ``(S, 3)`` circular mean over atoms of fractional differences ``(A, 3)``, whatever their images.

    Along lattice vectors along which atoms are fixed, it is that over these.
    """
    crystals, phases = pairs.unrelaxed, np.exp(2j * np.pi * difference)
    mean = crystals.mean_over_atoms(phases)
    if pairs.fixed is not None:
        mean = np.where(pairs.anchored, crystals.mean_over_atoms(np.where(pairs.fixed, phases, 0.0)), mean)
    return np.angle(mean) / (2 * np.pi)


def aligned(pairs: Pairs, drift: bool = True, rotation: bool = True, images: bool = True) -> Pairs:
    """Return the pairs with their relaxed crystals in the frame of the unrelaxed ones.

    Three things that no relaxation does are taken out of the target: atoms that left the cell on one side and are
    written on the other (nearest image), the rigid shift of all atoms (the mean fractional displacement becomes zero),
    and the rotation between the two frames, which files written from lattice parameters contain (polar decomposition of
    the deformation: the relaxed cell becomes ``L_0 P`` with P symmetric and positive).

    What is fixed has no choice of a frame: along lattice vectors along which atoms are fixed these do not move,
    whatever the mean of the others, and a fixed cell is that of the unrelaxed crystal, both exactly. `find_moved` tells
    where a file says otherwise.

    Parameters
    ----------
    pairs
        Pairs as filed, or aligned before.
    drift, rotation
        False leaves the rigid shift, or the frame, of the relaxed crystals as it is where nothing is fixed.
    images
        False leaves atoms in the cells in which they are filed.

    Raises
    ------
    ValueError
        Where the two cells of a pair have opposite handedness; the message names the pairs.
    """
    parts = [_aligned(pairs.select(piece), drift, rotation, images) for piece in pairs.unrelaxed.pieces(PIECE_ATOMS)]
    positions, cell = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return dataclasses.replace(pairs, relaxed=pairs.relaxed.replace(positions, cell), filed=pairs.as_filed)


def _aligned(
    pairs: Pairs, drift: bool, rotation: bool, images: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the positions and cells of the relaxed crystals of `aligned`."""
    before, after = pairs.unrelaxed, pairs.relaxed
    deformation = np.linalg.inv(before.cell) @ after.cell
    bad = np.flatnonzero(np.linalg.det(deformation) <= 0)
    if len(bad):
        raise ValueError(f'cells of opposite handedness in pairs {before.labels[bad].tolist()}: mirror one of the two')
    cell = unrotated(before.cell, deformation) if rotation else after.cell
    if pairs.fixed_cell is not None:
        cell = np.where(pairs.fixed_cell[:, None, None], before.cell, cell)
    crystal, fractional = before.structure_index, before.fractional()
    displacement, shift = _displacements(pairs, after.fractional() - fractional, cell, images)
    residue = before.mean_over_atoms(displacement)
    if pairs.fixed is not None:
        shift, residue = (np.where(pairs.anchored, 0.0, part) for part in (shift, residue))
        displacement[pairs.fixed] = 0.0
    displacement -= residue[crystal]
    if not drift:
        displacement += (shift + residue)[crystal]
    positions = np.einsum('ac,acx->ax', fractional + displacement, cell[crystal])
    if pairs.fixed is not None and pairs.fixed_cell is not None:  # to the last digit
        still = pairs.fixed.all(axis=1) & pairs.fixed_cell[crystal]
        positions[still] = before.positions[still]
    return positions, cell


def unrotated(before: NDArray[np.float64], deformation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return cells `before` ``(S, 3, 3)`` after the symmetric part of their `deformation` ``(S, 3, 3)``."""
    left, stretches, _ = np.linalg.svd(deformation)
    return before @ (left * stretches[:, None] @ np.swapaxes(left, 1, 2))


def _displacements(
    pairs: Pairs, difference: NDArray[np.float64], cell: NDArray[np.float64], images: bool = True
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return fractional displacements ``(A, 3)`` to the nearest images in `cell`, and the `mean_shift` taken off."""
    shift, index = mean_shift(difference, pairs), pairs.unrelaxed.structure_index
    if not images:
        return difference - shift[index], shift
    return shifted_to_nearest_image(difference - shift[index], cell, index), shift


def find_moved(pairs: Pairs) -> dict[int, str]:
    """Return the pairs, by index, in which something moved although it is fixed, and what.

    A fixed cell may turn, and fixed atoms may shift together: that is no relaxation.
    """
    faults: dict[int, str] = {}
    before, after = pairs.unrelaxed, pairs.relaxed
    deformation = np.linalg.inv(before.cell) @ after.cell
    cell = unrotated(before.cell, deformation)
    if pairs.fixed_cell is not None:
        changes = np.abs(cell - before.cell).max(axis=(1, 2))
        for index in np.flatnonzero(pairs.fixed_cell & (changes > FIXED_TOLERANCE)).tolist():
            faults[index] = f'the cell changed although it is fixed: by {changes[index]:.3g} A'
    if pairs.fixed is not None:
        crystal = before.structure_index
        moved, _ = _displacements(pairs, after.fractional() - before.fractional(), cell)
        moved = np.einsum('ac,acx->ax', np.where(pairs.fixed, moved, 0.0), cell[crystal])
        lengths, first = np.linalg.norm(moved, axis=1), before.offsets
        for atom in np.flatnonzero(lengths > FIXED_TOLERANCE).tolist():
            site = f'site {atom - first[crystal[atom]]} by {lengths[atom]:.3g} A'
            faults.setdefault(int(crystal[atom]), f'fixed sites moved: {site}')
    return faults
