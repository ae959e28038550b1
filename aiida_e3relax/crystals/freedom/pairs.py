"""What pairs say that their relaxations moved: predictions that are held to it, and unrelaxed crystals scaled in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_e3relax.crystals.freedom.freedom import Freedom, fixed_coordinates
from aiida_e3relax.crystals.freedom.projection import restrict
from aiida_e3relax.crystals.freedom.vacuum import Search
from aiida_e3relax.crystals.freedom.words import AXES, NO_VACUUM, Moves
from aiida_e3relax.crystals.pairs import Pairs
from aiida_e3relax.crystals.structures import Crystals

PARTLY = (Moves.IN_PLANE.value, Moves.SHAPE.value, Moves.VOLUME.value)
"""Of a cell that changes in part. What a cell or a site that stays needs, the pairs say by masks."""


def find_moves(pairs: Pairs) -> NDArray[np.str_]:
    """Return what moved in each pair ``(S,)``: where that is not said, the atoms, and the cell unless it is fixed."""
    fixed = np.zeros(len(pairs), dtype=bool) if pairs.fixed_cell is None else pairs.fixed_cell
    told = pairs.about.get('moves', np.full(len(pairs), ''))
    return np.where(told == '', np.where(fixed, Moves.POSITIONS.value, Moves.CELL.value), told)


def find_fixed_sites(pairs: Pairs, labels: Sequence[str]) -> dict[str, dict[str, list[int]]]:
    """Return the sites that are fixed in the crystals of pairs, by their `labels`, as a prediction takes them.

    None of what changes its volume alone, in which fractional coordinates stay anyway.
    """
    if pairs.fixed is None:
        return {}
    masks = np.split(pairs.fixed, pairs.unrelaxed.offsets[1:-1])
    is_free = find_moves(pairs) != Moves.VOLUME
    chosen = [place for place, mask in enumerate(masks) if mask.any() and is_free[place]]
    return {labels[place]: fixed_coordinates(~masks[place]) for place in chosen}


def freedom_of(moves: str, keep_symmetry: bool = False) -> Freedom:
    """Return the freedom of a relaxation of which a pair says `moves`; the vacuum of a layer is along c."""
    vacuum = AXES[2] if moves == Moves.IN_PLANE else NO_VACUUM
    return Freedom(moves, keep_symmetry=keep_symmetry, vacuum=vacuum)


def hold(
    predicted: Crystals, pairs: Pairs, skipped: Sequence[int] = (), search: Search | None = None
) -> tuple[Crystals, list[int]]:
    """Return predictions without what the relaxations of `pairs` did not move of their cells, and which have none.

    Those become the unrelaxed crystal; `skipped` are left as they are. Cells that stay as a whole are the model's to
    hold. Pairs that say nothing of what moves, or something else than a word of `Moves`, are as predicted.
    """
    told = pairs.about.get('moves')
    if told is None or not np.isin(told, PARTLY).any():
        return predicted, []
    positions, cell, offsets = predicted.positions.copy(), predicted.cell.copy(), predicted.offsets
    failed = []
    for index in np.setdiff1d(np.flatnonzero(np.isin(told, PARTLY)), skipped).tolist():
        start, atoms = pairs.unrelaxed.select([index]), slice(offsets[index], offsets[index + 1])
        freedom = freedom_of(told[index]).holding(None if pairs.fixed is None else ~pairs.fixed[atoms])
        kinds = start.numbers.astype(np.str_).tolist()
        try:
            held = restrict(start, predicted.select([index]), freedom, kinds, search)
        except (ValueError, np.linalg.LinAlgError):
            failed.append(index)
            held = start
        positions[atoms], cell[index] = held.positions, held.cell[0]
    return predicted.replace(positions, cell), failed


def scaled(pairs: Pairs, volumes: NDArray[np.float64]) -> Crystals:
    """Return the unrelaxed crystals at `volumes` ``(S,)`` in A^3, scaled alike in all directions in which they relax.

    Layers are scaled in their plane: across it they and their vacuum stay.
    """
    unrelaxed, told = pairs.unrelaxed, pairs.about.get('moves', np.array([]))
    everywhere = unrelaxed.scaled_to(volumes)
    layers = np.flatnonzero(told == Moves.IN_PLANE)
    if not len(layers):
        return everywhere
    cell: Any = everywhere.cell.copy()
    cell[layers] = unrelaxed.cell[layers]
    cell[layers, :2] *= np.sqrt(np.abs(volumes / unrelaxed.volumes))[layers, None, None]
    positions = np.einsum('ac,acx->ax', unrelaxed.fractional(), cell[unrelaxed.structure_index])
    return unrelaxed.replace(positions, cell)
