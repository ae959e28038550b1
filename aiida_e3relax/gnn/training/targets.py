"""Symmetric training targets: the part of a relaxation that preserves the symmetry of the unrelaxed crystal."""

from __future__ import annotations

import dataclasses

import numpy as np

from aiida_e3relax.common.errors import InputError
from aiida_e3relax.common.progress import progress
from aiida_e3relax.crystals.pairs import Pairs, aligned
from aiida_e3relax.crystals.symmetry import SpaceGroup

TARGET_SYMMETRY_DISTANCE = 0.02
"""In A, how far unrelaxed sites may be off: what is nearly symmetric looks so to a network."""


def symmetrised_targets(pairs: Pairs, shows_progress: bool = True) -> Pairs:
    """Return the pairs, aligned, with the part of each relaxation that keeps the unrelaxed crystal's space group.

    An equivariant network cannot predict the rest: it has no way to choose among the equivalent directions in which a
    crystal may break its symmetry. Displacements are averaged over the group, and so is the logarithm of the strain,
    which leaves the relaxed volume as it is. A crystal in which spglib finds no group keeps its target.

    Raises
    ------
    InputError
        Where spglib is not installed, which a computer that only trains may lack.
    """
    try:
        import spglib  # noqa: F401 (what `SpaceGroup` needs, asked for before anything long begins)
    except ImportError as error:
        raise InputError('symmetric_targets needs spglib, which finds space groups: pip install spglib') from error
    pairs = aligned(pairs)
    before, after = pairs.unrelaxed, pairs.relaxed
    offsets, start = before.offsets, before.fractional()
    displacements = after.fractional() - start  # nearest images, after the alignment
    positions, cells = after.positions.copy(), after.cell.copy()
    kinds = before.numbers  # fixed atoms are of other kinds than free ones
    if pairs.fixed is not None:
        kinds = kinds + 1000 * (pairs.fixed @ np.array([1, 2, 4]))
    indices = range(len(pairs))
    for index in progress(indices, 'symmetry of targets') if shows_progress else indices:
        atoms = slice(offsets[index], offsets[index + 1])
        crystal = before.select([index])
        try:
            group = SpaceGroup.of(crystal, kinds[atoms], TARGET_SYMMETRY_DISTANCE)
        except ValueError:
            continue
        stretch = np.linalg.solve(crystal.cell[0], after.cell[index])
        if pairs.fixed_cell is None or not pairs.fixed_cell[index]:
            cells[index] = crystal.cell[0] @ group.symmetrise_stretch(stretch)
        moves = group.symmetrise_displacements(displacements[atoms])
        if pairs.fixed is not None:
            moves[pairs.fixed[atoms]] = 0.0
        positions[atoms] = (start[atoms] + moves) @ cells[index]
    return dataclasses.replace(pairs, relaxed=after.replace(positions, cells))
